"use strict";
// What the page knows, and how its parts are made. Everything waits until the whole page has been read.

const parts = [];
const overview = () => JSON.parse(document.getElementById("overview").textContent);

/** An element with attributes and children; text is never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A labelled list to choose from; `options` are [value, text]. */
function choice(label, options, act) {
  const select = make("select", { on: { change: () => act(select.value) } });
  for (const [value, text] of options) select.append(make("option", { value }, text));
  return { select, element: make("label", {}, `${label} `, select) };
}

/** Puts other options into a list; keeps what was chosen if it is still there. */
function offer(select, options) {
  const chosen = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => String(value) === chosen)) select.value = chosen;
}

/** Base64 of deflated JSON -> what it says. */
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

const blobs = new Map();
const apart = new Map();
globalThis.stepcreditTokens = (name, text) => apart.get(name)?.(text);

/** What lies under that name, in this page or in a file beside it; unpacked once. */
function blob(name) {
  if (!blobs.has(name)) {
    const here = [...document.querySelectorAll("script[data-blob]")].find((own) => own.dataset.blob === name);
    const found = (here ? Promise.resolve(here.textContent) : fromFile(name)).then(unpack);
    blobs.set(name, found);
    found.catch(() => blobs.delete(name)); // it may be asked for again
  }
  return blobs.get(name);
}

function fromFile(name) {
  return new Promise((resolve, reject) => {
    apart.set(name, resolve);
    const file = JSON.parse(document.getElementById("apart").textContent)[name];
    document.head.append(make("script", { src: file, on: { error: () => reject(new Error(`${file} is not there`)) } }));
  });
}

const runKey = (group, run) => `${group.tasks}/${group.name}/${run.cell}`;
const groupTitle = (group, all) => (new Set(all.map((own) => own.tasks)).size > 1 ? `${group.tasks}: ${group.name}` : group.name);

document.addEventListener("DOMContentLoaded", () => {
  const known = overview();
  for (const start of parts) start(known);
});
