/** What jsdom lacks and the component library asks for; nothing of ours is replaced. */
import { afterEach } from "vitest";
import { cleanup, configure } from "@testing-library/react";

// A page is fetched in parts; on a busy machine that takes far longer than the default second.
configure({ asyncUtilTimeout: 40_000 });

class Observer {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}

Object.assign(globalThis, { ResizeObserver: Observer });
Object.assign(window, {
  matchMedia: (query: string) => ({
    matches: false,
    media: query,
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
    addListener: () => undefined,
    removeListener: () => undefined,
  }),
  scrollTo: () => undefined,
});
Element.prototype.scrollIntoView = () => undefined;
if (!("fonts" in document)) {
  Object.assign(document, { fonts: { addEventListener: () => undefined, removeEventListener: () => undefined } });
}

afterEach(() => {
  cleanup();
  localStorage.clear();
});
