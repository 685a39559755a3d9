import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { open, violations } from "./render";
import { serve } from "./server";

const closed = { required: true, signed_in: false, name: null };
const token = { id: "t1", kind: "token", name: "laptop", created_at: "2026-11-22T10:00:00.000Z", expires_at: null, current: false };
const answers = {
  "GET /api/session": { required: false, signed_in: false, name: null },
  "GET /api/tokens": { tokens: [token] },
  "POST /api/tokens": { ...token, id: "t2", name: "ci", token: "afn_t2_secret" },
  "GET /api/settings": {
    settings: [{ name: "port", value: 8000, origin: "default", variable: "AFFINAGE_PORT", meaning: "Port to listen on." }],
  },
};

test("a stranger sees the sign-in form and nothing of the studio", async () => {
  serve({ ...answers, "GET /api/session": closed });
  open("/dashboard");
  expect(await screen.findByRole("heading", { name: "Sign in" })).toBeDefined();
  expect(screen.queryByRole("navigation")).toBeNull();
  expect(await violations()).toEqual([]);
});

test("a token is exchanged for a session and then forgotten by the page", async () => {
  const asked = serve({ ...answers, "GET /api/session": closed, "POST /api/session": { ...closed, signed_in: true } });
  open("/settings");
  await userEvent.type(await screen.findByLabelText("Access token"), " afn_t1_secret ");
  await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
  expect(asked.find(({ method, path }) => method === "POST" && path === "/api/session")?.body).toEqual({ token: "afn_t1_secret" });
  expect(JSON.stringify({ ...localStorage, ...sessionStorage })).not.toContain("secret");
});

test("the code of a launch link is used once and leaves the address", async () => {
  const asked = serve({ ...answers, "GET /api/session": closed, "POST /api/session": { ...closed, signed_in: true } });
  window.history.replaceState(null, "", "/sign-in#code=afc_1_x");
  open("/sign-in");
  await screen.findByRole("heading", { name: "Sign in" });
  expect(window.location.hash).toBe("");
  expect(asked.filter(({ method }) => method === "POST").map(({ body }) => body)).toEqual([{ code: "afc_1_x" }]);
});

test("settings are shown and not changed; a new token is shown once", async () => {
  const asked = serve(answers);
  open("/settings");
  expect(await screen.findByText("AFFINAGE_PORT")).toBeDefined();
  expect(screen.getByText("Open to this machine")).toBeDefined();
  await userEvent.type(await screen.findByLabelText("New token"), "ci");
  await userEvent.click(screen.getByRole("button", { name: "Make a token" }));
  expect(await screen.findByText("afn_t2_secret")).toBeDefined();
  expect(await violations()).toEqual([]);
  await userEvent.click(screen.getByRole("button", { name: "Revoke: laptop" }));
  await userEvent.click(await screen.findByRole("button", { name: "Revoke" }));
  expect(asked.at(-1)).toBeDefined();
  expect(asked.some(({ method, path }) => method === "DELETE" && path === "/api/tokens/t1")).toBe(true);
});
