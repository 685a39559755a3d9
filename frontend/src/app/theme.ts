/** Gold of the rind, slate of the cellar. Contrast of text on its ground is at least 4.5:1 in both schemes. */
import { Button, createTheme, type CSSVariablesResolver, type MantineColorsTuple } from "@mantine/core";

const gold: MantineColorsTuple = [
  "#fdf7e7", "#f9ebc8", "#f3da98", "#edc967", "#e7b64c", "#cd9828", "#ab7713", "#8a5800", "#6f4600", "#533400",
];
const stone: MantineColorsTuple = [
  "#faf8f4", "#f3efe8", "#e7e1d6", "#d6cec0", "#b9af9f", "#978c7b", "#74695b", "#5c5347", "#423b32", "#29241e",
];
const cellar: MantineColorsTuple = [
  "#f1ece3", "#d3ccc0", "#aea595", "#7f7667", "#544c41", "#3b352d", "#2b2620", "#211d18", "#191612", "#110f0c",
];

export const theme = createTheme({
  primaryColor: "gold",
  primaryShade: { light: 7, dark: 4 },
  autoContrast: true,
  luminanceThreshold: 0.35,
  colors: { gold, gray: stone, dark: cellar },
  black: stone[9],
  defaultRadius: "md",
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif",
  fontFamilyMonospace: "ui-monospace, 'SF Mono', 'Cascadia Mono', Menlo, Consolas, 'Liberation Mono', monospace",
  headings: { fontWeight: "650", sizes: { h1: { fontSize: "1.75rem", lineHeight: "1.2" }, h2: { fontSize: "1.125rem", lineHeight: "1.35" } } },
  cursorType: "pointer",
  focusRing: "auto",
  respectReducedMotion: true,
  components: {
    Button: Button.extend({
      // Mantine computes the label's colour for the light scheme alone; gold in the dark needs dark letters.
      vars: (_theme, { variant = "filled", color }) => ({
        root: variant === "filled" && !color ? { "--button-color": "var(--mantine-primary-color-contrast)" } : {},
      }),
    }),
    Modal: { defaultProps: { centered: true, overlayProps: { backgroundOpacity: 0.4 } } },
  },
});

/** Colours with a meaning, for both schemes; theme.css gives them their places. */
export const cssVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    "--mantine-color-body": "#f7f4ee",
    "--mantine-color-dimmed": "#665c4f",
    "--mantine-color-placeholder": "#786d5e",
    "--mantine-color-error": "#a3281f",
    "--mantine-color-anchor": "#7a4e00",
    "--surface": "#fffefb",
    "--surface-sunk": "#f3efe7",
    "--line": "#e4ddd1",
    "--line-strong": "#8f8472",
    "--good": "#23683f",
    "--good-ground": "#e5f2e9",
    "--warn": "#944012",
    "--warn-ground": "#fceee2",
    "--bad": "#a3281f",
    "--bad-ground": "#fbe9e7",
    "--info": "#1f5f66",
    "--info-ground": "#e3f0f1",
    "--neutral": "#5c5347",
    "--neutral-ground": "#eee9df",
    "--star": "#a86f00",
    "--curve-training": "#8a5800",
    "--curve-faint": "#dcbf86",
    "--curve-heldout": "#1f6f78",
    "--spot-quiet": "#b9b0a2",
  },
  dark: {
    "--mantine-color-body": "#15120f",
    "--mantine-color-dimmed": "#b0a797",
    "--mantine-color-placeholder": "#938a7b",
    "--mantine-color-error": "#f0948b",
    "--mantine-color-anchor": "#edc967",
    "--mantine-color-text": "#efe9df",
    "--surface": "#1e1a16",
    "--surface-sunk": "#17140f",
    "--line": "#373129",
    "--line-strong": "#857b6c",
    "--good": "#86cfa1",
    "--good-ground": "#1b3325",
    "--warn": "#f3ae7c",
    "--warn-ground": "#3b2515",
    "--bad": "#f19d94",
    "--bad-ground": "#3f1e1b",
    "--info": "#88c9cf",
    "--info-ground": "#173235",
    "--neutral": "#c6bdae",
    "--neutral-ground": "#302a23",
    "--star": "#e7b64c",
    "--curve-training": "#e7b64c",
    "--curve-faint": "#6d5526",
    "--curve-heldout": "#6cc3cc",
    "--spot-quiet": "#5f574c",
  },
});
