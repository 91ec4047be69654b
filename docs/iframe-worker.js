/* Browsers start no worker from file://, and the search is one. There this runs a worker's script in a hidden
   frame instead; served by a server it does nothing. */
"use strict";
(() => {
  if (location.protocol !== "file:") return;

  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = this.onerror = null;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      this.inside = this.frame.contentWindow;
      this.ready = new Promise((resolve) => {
        // What a worker's global scope has: it answers to the page, and loads further scripts in order.
        this.inside.postMessage = (data) => this.hear(data);
        this.inside.importScripts = (...scripts) => scripts.reduce(
          (before, one) => before.then(() => new Promise((done) => {
            const script = this.inside.document.createElement("script");
            script.src = one;
            script.onload = script.onerror = done;
            this.inside.document.body.appendChild(script);
          })), Promise.resolve());
        const script = this.inside.document.createElement("script");
        script.src = new URL(url, location).href;
        script.onload = resolve;
        this.inside.document.body.appendChild(script);
      });
    }

    hear(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      if (this.onmessage) this.onmessage(event);
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  }

  window.IFrameWorker = window.Worker = FrameWorker;
})();
