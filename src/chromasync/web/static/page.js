// Keeps the page live: asks for its changing part every few seconds, and opens dialogs.
"use strict";

(function () {
  const EVERY_MS = 2000;
  const live = document.getElementById("live");
  const dialog = document.getElementById("dialog");
  const lost = document.getElementById("lost");
  let tone = toneNow();
  let seenAt = new Date();

  // What a person types stays, and charts are drawn by their own script.
  Idiomorph.defaults.ignoreActiveValue = true;
  Idiomorph.defaults.callbacks.beforeNodeMorphed = function (node) {
    return !(node.nodeType === Node.ELEMENT_NODE && node.hasAttribute("data-keep"));
  };

  function toneNow() {
    const hero = document.getElementById("hero");
    return hero ? hero.dataset.tone : "";
  }

  function look() {
    if (document.visibilityState === "visible") {
      htmx.trigger(live, "look");
    }
  }

  // The title of the tab follows the first line. A change is told to those who cannot see it.
  function tell() {
    const title = document.querySelector("#hero h1");
    if (!title) {
      return;
    }
    document.title = title.textContent + " – chromasync";
    if (toneNow() !== tone) {
      tone = toneNow();
      document.getElementById("told").textContent = title.textContent;
    }
  }

  function showLost(isLost) {
    if (isLost && lost.hidden) {
      document.getElementById("lost-at").textContent = seenAt.toLocaleTimeString();
    }
    lost.hidden = !isLost;
  }

  document.addEventListener("visibilitychange", look);
  setInterval(look, EVERY_MS);

  // An answer to a request from before the last choice would undo that choice, so it is not shown.
  let choices = 0;
  const choicesAtRequest = new WeakMap();
  document.addEventListener("input", function (event) {
    if (event.target.form && event.target.form.id === "choice") {
      document.getElementById("page").value = "1";
      choices += 1;
    }
  });
  document.body.addEventListener("htmx:beforeSend", function (event) {
    choicesAtRequest.set(event.detail.xhr, choices);
  });

  document.body.addEventListener("htmx:afterRequest", function (event) {
    const request = event.detail.xhr;
    if (event.detail.elt.id === "live" && request.status === 401) {
      location.assign("login");
    }
    if (event.detail.successful) {
      seenAt = new Date();
      showLost(false);
      document.dispatchEvent(new CustomEvent("looked"));
    }
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.body.addEventListener(name, function () {
      showLost(true);
    });
  }
  document.body.addEventListener("htmx:responseError", function (event) {
    if (event.detail.xhr.status >= 500) {
      showLost(true);
    }
  });

  // Refusals are shown where they were asked for.
  document.body.addEventListener("htmx:beforeSwap", function (event) {
    if (event.detail.target.id === "live" && choicesAtRequest.get(event.detail.xhr) !== choices) {
      event.detail.shouldSwap = false;
    }
    if (event.detail.target.id === "dialog-body" && event.detail.xhr.status === 403) {
      event.detail.shouldSwap = true;
    }
  });
  document.body.addEventListener("htmx:afterSwap", function (event) {
    if (event.detail.target.id === "live") {
      tell();
    } else if (event.detail.target.id === "dialog-body" && !dialog.open) {
      dialog.showModal();
    }
  });
  dialog.addEventListener("click", function (event) {
    if (event.target.closest("[data-close]")) {
      event.preventDefault();
      dialog.close();
      look();
    }
  });
  // Links that look like buttons are pressed with the space bar, too.
  document.addEventListener("keydown", function (event) {
    if (event.key === " " && event.target.matches("a[role=button]")) {
      event.preventDefault();
      event.target.click();
    }
  });
})();
