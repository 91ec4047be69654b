"""Plans: circuits mapped, rounds priced and accuracy predicted before anything is sent."""
