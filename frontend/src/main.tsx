import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App, createClient } from "@/app/App";
import { createAppRouter } from "@/app/router";

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App router={createAppRouter()} client={createClient()} />
    </StrictMode>,
  );
}
