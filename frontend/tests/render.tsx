import { createMemoryHistory } from "@tanstack/react-router";
import { render } from "@testing-library/react";
import axe from "axe-core";
import { App, createClient } from "@/app/App";
import { createAppRouter } from "@/app/router";

/** The whole page at an address, as main.tsx starts it. */
export function open(address: string) {
  const router = createAppRouter(createMemoryHistory({ initialEntries: [address] }));
  return { router, ...render(<App router={router} client={createClient()} />) };
}

/** Rules that axe finds broken; contrast needs a real browser and is checked in e2e. */
export async function violations(): Promise<string[]> {
  const results = await axe.run(document.body, { rules: { "color-contrast": { enabled: false } } });
  return results.violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 160)}`));
}
