"""Programs as tapes: value and hand-written reverse pass as flat lists of torch calls on reused memory."""
