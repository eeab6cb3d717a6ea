// The chat page of llmcam: posts what the person says, shows what the server sends.
// All HTML comes rendered and sanitised from the server; nothing here builds markup from text.
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const log = $("#log"), scroll = $("#scroll"), form = $("#chat-form"), box = $("#chat-text"), link = $("#link"), side = $("#side");
  if (!log) return;  // the login
  const title = document.title;
  let after = Number(log.dataset.after), unread = 0, pause = 500, socket;

  // -- staying at the end: whatever grows or moves, we follow, until the person scrolls away
  let following = Boolean($(".msg.user, .noti", log)), touched = -1e9;  // the empty page is read from its top
  const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
  const toEnd = () => { scroll.scrollTop = scroll.scrollHeight; };
  const touch = () => { touched = performance.now(); };
  for (const kind of ["wheel", "touchmove", "pointerdown", "pointermove"])
    scroll.addEventListener(kind, event => { if (kind !== "pointermove" || event.buttons) touch(); }, { passive: true });
  document.addEventListener("keydown", event => { if (/^(Page|Arrow|Home|End| )/.test(event.key) && event.target !== box) touch(); });
  scroll.addEventListener("scroll", () => {
    if (atEnd()) following = true;
    else if (performance.now() - touched < 600) following = false;
  }, { passive: true });
  const keepUp = new ResizeObserver(() => { if (following) toEnd(); });
  keepUp.observe(log); keepUp.observe(scroll);

  // -- showing items
  // One way to show a time, the viewer's own; also where a notification says in words when its frame was taken.
  const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const day = time.dateTime.slice(0, 10), words = time.closest(".noti")?.querySelector(".prose");
      time.textContent = clock.format(new Date(time.dateTime));
      for (const texts = words && document.createTreeWalker(words, NodeFilter.SHOW_TEXT); texts?.nextNode();)
        texts.currentNode.data = texts.currentNode.data.replace(/\b(\d\d:\d\d:\d\d) UTC\b/g, (_, at) => clock.format(new Date(`${day}T${at}Z`)));
    }
  }

  function element(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    localTimes(template.content);
    return template.content.firstElementChild;
  }

  function show(item) {
    const fresh = element(item.html), known = document.getElementById(fresh.id), old = item.kind === "user" ? null : known;
    if (known && !old) known.remove();  // what waited comes to the end, where its answer follows
    if (old) {
      const named = (root, all) => [...root.querySelectorAll("details")].filter(all).map(d => [$("summary", d).textContent, d]);
      const sole = old.querySelectorAll("details").length === 1, open = new Map(named(old, d => d.open));
      for (const [name, d] of named(fresh, () => true)) d.open = open.has(name) || (sole && open.size === 1);
      const focused = old.contains(document.activeElement) && document.activeElement.closest("summary")?.textContent;
      old.replaceWith(fresh);
      if (focused != null && focused !== false) (named(fresh, () => true).find(([name]) => name === focused)?.[1] ?? $("details", fresh))?.querySelector("summary").focus();
    } else if (item.place === "log") {
      log.insertBefore(fresh, $("#busy"));
    }
    if (item.kind === "user") { following = true; touched = -1e9; }  // who speaks is at the end; the click before it was no scrolling
    if (following && item.place === "log") toEnd();
    if ((item.kind === "noti" || item.kind === "ask") && !old) announce(fresh);
    if (item.kind === "ask") { fresh.since = performance.now(); if (!old) fromTheTop(fresh); }
  }

  // A question that is longer than the window is shown from its beginning: its buttons come after all of it was passed.
  function fromTheTop(ask) {
    if (!ask || ask.offsetHeight <= scroll.clientHeight) return;
    following = false;
    ask.scrollIntoView({ block: "start" });
  }

  function busy(on) {
    $("#busy").hidden = !on;
    log.setAttribute("aria-busy", String(on));
    if (following) toEnd();
  }

  function isSeen(element) {
    const box = element.getBoundingClientRect(), view = scroll.getBoundingClientRect();
    return !document.hidden && box.top < view.bottom - 20 && box.bottom > view.top + 20;
  }

  function announce(noti) {
    if (!isSeen(noti)) toast($(".prose, header", noti)?.textContent.trim() ?? "", noti);
    if (document.hidden) document.title = `(${++unread}) ${title}`;
  }

  // A note at the edge: for a notification that is out of sight, or, without one, for what went wrong.
  function toast(text, noti) {
    const toasts = $("#toasts"), fresh = $("#toast").content.firstElementChild.cloneNode(true), words = $("p", fresh);
    for (const old of [...toasts.children]) if ($("p", old).textContent === text) old.remove();
    words.textContent = text;
    fresh.classList.toggle("bad", !noti);
    if (noti) { fresh.noti = noti; words.onclick = () => { noti.scrollIntoView({ block: "center" }); touch(); fresh.remove(); }; }
    else $("use", fresh).setAttribute("href", "/static/icons.svg#alert");
    $("button", fresh).onclick = () => fresh.remove();
    while (toasts.children.length > 2) toasts.firstElementChild.remove();
    toasts.append(fresh);
    setTimeout(() => fresh.remove(), 12000);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    unread = 0; document.title = title;
    for (const note of [...$("#toasts").children]) if (note.noti && isSeen(note.noti)) note.remove();
  });

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
      if (!answer.ok) toast(words);
      return answer.ok;
    } catch {
      toast("The server does not answer. Is it still running?");
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

  // A question that has just moved under the pointer is not answered by a click that was meant for something else.
  function answer(button) {
    const card = button.closest(".ask");
    if (performance.now() - (card.since ?? -1e9) < 700) return;
    for (const each of card.querySelectorAll("button")) each.disabled = true;
    post("/answer", { ask: button.dataset.ask, verdict: button.dataset.verdict });
  }

  // -- clicks: example prompts, watches, questions, pictures
  document.addEventListener("click", event => {
    const on = name => event.target.closest(`[data-${name}]`), prompt = on("prompt"), watch = on("watch"), shot = on("shot"), ask = on("ask");
    if (prompt) { panel(false); post("/chat", { text: prompt.dataset.prompt }); box.focus(); }
    else if (watch) post("/stop", { watch: watch.dataset.watch, do: watch.dataset.do });
    else if (ask) answer(ask);
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
  if (following) toEnd();
  fromTheTop($(".ask:has(.choice)"));
  if (matchMedia("(min-width: 961px)").matches) box.focus();
  connect();
})();
