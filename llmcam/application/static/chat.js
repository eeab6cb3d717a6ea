// The chat page of llmcam: posts what the person says, shows what the server sends.
// All HTML comes rendered and sanitised from the server; nothing here builds markup from text.
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const log = $("#log"), scroll = $("#scroll"), form = $("#chat-form"), box = $("#chat-text"), link = $("#link"), side = $("#side");
  const title = document.title;
  let after = Number(log.dataset.after), unread = 0, pause = 500, socket;

  // -- showing items
  const nearEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 160;
  const toEnd = () => { scroll.scrollTop = scroll.scrollHeight; };
  const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
  const localTimes = root => root.querySelectorAll("time[datetime]").forEach(t => { t.textContent = clock.format(new Date(t.dateTime)); });

  function element(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    localTimes(template.content);
    return template.content.firstElementChild;
  }

  function show(item) {
    const follow = nearEnd(), fresh = element(item.html), old = document.getElementById(fresh.id);
    if (old) {
      const open = [...old.querySelectorAll("details")].map(d => d.open);
      fresh.querySelectorAll("details").forEach((d, i) => { if (open[i]) d.open = true; });
      const within = old.contains(document.activeElement), summary = within && document.activeElement.matches("summary");
      old.replaceWith(fresh);
      if (summary) $("summary", fresh)?.focus();
    } else if (item.place === "log") {
      log.insertBefore(fresh, $("#busy"));
    }
    if (item.kind === "noti") announce(fresh);
    if (item.kind === "user" || (item.place === "log" && follow)) toEnd();
  }

  function busy(on) {
    $("#busy").hidden = !on;
    log.setAttribute("aria-busy", String(on));
    if (on && nearEnd()) toEnd();
  }

  function announce(noti) {
    toast($(".prose", noti)?.textContent.trim() ?? "");
    if (document.hidden) document.title = `(${++unread}) ${title}`;
  }

  function toast(text, bad = false) {
    const fresh = $("#toast").content.firstElementChild.cloneNode(true);
    $("p", fresh).textContent = text;
    fresh.classList.toggle("bad", bad);
    $("button", fresh).onclick = () => fresh.remove();
    $("#toasts").append(fresh);
    setTimeout(() => fresh.remove(), 12000);
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) { unread = 0; document.title = title; } });
  // A picture grows after it is inserted: stay at the end if we were there.
  log.addEventListener("load", e => { if (e.target.tagName === "IMG" && nearEnd()) toEnd(); }, true);

  // -- the line to the server: reconnects by itself and asks for what it missed
  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/events?feed=${encodeURIComponent(log.dataset.feed)}&after=${after}`);
    socket.onopen = () => { pause = 500; state("on", "Connected"); };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      for (const item of message.items) { show(item); after = Math.max(after, item.seq); }
      busy(message.busy);
    };
    socket.onclose = ({ code }) => {
      if (code === 4404) return location.reload();       // the server forgot this conversation: start afresh
      state("off", "Reconnecting…");
      setTimeout(connect, pause);
      pause = Math.min(pause * 2, 8000);
    };
  }
  function state(name, text) { link.dataset.state = name; $("span", link).textContent = text; }

  // -- talking
  async function post(path, fields) {
    try {
      const answer = await fetch(path, { method: "POST", body: new URLSearchParams(fields) }), words = await answer.text();
      if (!answer.ok) toast(words, true);
      return answer.ok;
    } catch {
      toast("The server does not answer. Is it still running?", true);
      return false;
    }
  }

  form.addEventListener("submit", async event => {
    event.preventDefault();
    const text = box.value.trim();
    if (!text) return;
    box.value = ""; fit();
    if (!await post("/chat", { text })) { box.value = text; fit(); }
  });
  box.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  function fit() {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
    $("button", form).disabled = !box.value.trim();
  }
  box.addEventListener("input", fit);

  // -- clicks: example prompts, stopping a watch, pictures
  document.addEventListener("click", event => {
    const prompt = event.target.closest("[data-prompt]"), stop = event.target.closest("[data-stop]"), shot = event.target.closest("[data-shot]");
    if (prompt) { panel(false); post("/chat", { text: prompt.dataset.prompt }); box.focus(); }
    else if (stop) post("/stop", { watch: stop.dataset.stop });
    else if (shot) {
      const large = $("#lightbox"), small = $("img", shot);
      $("img", large).src = small.src; $("img", large).alt = small.alt; $("p", large).textContent = small.alt;
      large.showModal();
    }
  });
  $("#lightbox").addEventListener("click", event => event.currentTarget.close());

  // -- panel and theme
  function panel(shown) { side.classList.toggle("shown", shown); $("#open-panel").setAttribute("aria-expanded", String(shown)); }
  $("#open-panel").onclick = () => { panel(true); $("button", side).focus(); };
  $("#close-panel").onclick = () => { panel(false); $("#open-panel").focus(); };
  document.addEventListener("keydown", event => { if (event.key === "Escape" && side.classList.contains("shown")) $("#close-panel").click(); });
  $("#theme").onclick = () => {
    const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("llmcam-theme", root.dataset.theme); } catch { /* storage may be off */ }
  };

  localTimes(document);
  fit();
  toEnd();
  if (matchMedia("(min-width: 961px)").matches) box.focus();
  connect();
})();
