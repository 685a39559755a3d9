/** The page's own line icons, 24 by 24. Decorative: the text beside them says what they mean. */
const PATHS = {
  upload: "M12 16V4m0 0L7.5 8.5M12 4l4.5 4.5M4 16v2.5A1.5 1.5 0 0 0 5.5 20h13a1.5 1.5 0 0 0 1.5-1.5V16",
  sliders: "M4 7h9m5 0h2M4 17h2m5 0h9M15.5 4.5v5M8.5 14.5v5",
  chart: "M4 4v14.5A1.5 1.5 0 0 0 5.5 20H20M7.5 8c1.5 5.5 4 7 12 7.5",
  chat: "M5.5 5h13A1.5 1.5 0 0 1 20 6.5v8a1.5 1.5 0 0 1-1.5 1.5H11l-4.5 4v-4h-1A1.5 1.5 0 0 1 4 14.5v-8A1.5 1.5 0 0 1 5.5 5Z",
  layers: "m12 4 8.5 4.5L12 13 3.5 8.5 12 4Zm-8 8.5 8 4.2 8-4.2M4 16.3l8 4.2 8-4.2",
  check: "m5 12.5 4.5 4.5L19 7.5",
  warning: "M12 9v4.5m0 3.2v.1M10.6 4.8 3.3 17.5A1.6 1.6 0 0 0 4.7 20h14.6a1.6 1.6 0 0 0 1.4-2.5L13.4 4.8a1.6 1.6 0 0 0-2.8 0Z",
  info: "M12 11v5.5M12 7.6v.1M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0Z",
  file: "M13.5 3.5h-7A1.5 1.5 0 0 0 5 5v14a1.5 1.5 0 0 0 1.5 1.5h11A1.5 1.5 0 0 0 19 19V9l-5.5-5.5ZM13.5 3.5V9H19M8.5 13h7m-7 3.5h5",
  machine: "M7 4.5h10A2.5 2.5 0 0 1 19.5 7v10a2.5 2.5 0 0 1-2.5 2.5H7A2.5 2.5 0 0 1 4.5 17V7A2.5 2.5 0 0 1 7 4.5ZM9.5 9.5h5v5h-5ZM9.5 1.8v2.7m5-2.7v2.7m-5 15v2.7m5-2.7v2.7M1.8 9.5h2.7m-2.7 5h2.7m15-5h2.7m-2.7 5h2.7",
  arrow: "M5 12h14m0 0-5.5-5.5M19 12l-5.5 5.5",
  pause: "M8.5 6v12m7-12v12",
  play: "M8 5.5 18 12 8 18.5Z",
  first: "M5 4.5h14M12 20V9m0 0-4.5 4.5M12 9l4.5 4.5",
  stop: "M8 6.5h8A1.5 1.5 0 0 1 17.5 8v8a1.5 1.5 0 0 1-1.5 1.5H8A1.5 1.5 0 0 1 6.5 16V8A1.5 1.5 0 0 1 8 6.5Z",
  send: "M4.5 12h7M4.8 5l15 7-15 7-1.3-.6L6 12 3.5 5.6 4.8 5Z",
  sun: "M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0ZM12 2.5v2m0 15v2m9.5-9.5h-2m-15 0h-2m16.2-6.7-1.4 1.4M6.7 17.3l-1.4 1.4m13.4 0-1.4-1.4M6.7 6.7 5.3 5.3",
  moon: "M20 14.3A8.5 8.5 0 0 1 9.7 4 8.5 8.5 0 1 0 20 14.3Z",
  auto: "M12 3a9 9 0 1 0 0 18Zm0 0a9 9 0 0 1 0 18",
  copy: "M9.5 8.5h9A1.5 1.5 0 0 1 20 10v9a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 8 19v-9a1.5 1.5 0 0 1 1.5-1.5ZM16 5.5V5a1.5 1.5 0 0 0-1.5-1.5h-9A1.5 1.5 0 0 0 4 5v9a1.5 1.5 0 0 0 1.5 1.5",
  trash: "M4.5 6.5h15m-11 0V5A1.5 1.5 0 0 1 10 3.5h4A1.5 1.5 0 0 1 15.5 5v1.5m2.5 0-.8 12.1a1.5 1.5 0 0 1-1.5 1.4H8.3a1.5 1.5 0 0 1-1.5-1.4L6 6.5m4 4v6m4-6v6",
  search: "M15.5 10.5a5 5 0 1 1-10 0 5 5 0 0 1 10 0Zm-1.3 3.8 4.8 4.8",
  undo: "M8.5 5 4.5 9l4 4M4.5 9H14a5 5 0 0 1 0 10H9",
  plus: "M12 5v14M5 12h14",
  gauge: "M4.2 17.5a9 9 0 1 1 15.6 0M12 14.5l3.8-5.2",
  lock: "M7 10.5h10a1.5 1.5 0 0 1 1.5 1.5v6.5A1.5 1.5 0 0 1 17 20H7a1.5 1.5 0 0 1-1.5-1.5V12A1.5 1.5 0 0 1 7 10.5Zm1.5 0V8a3.5 3.5 0 0 1 7 0v2.5M12 14.2v2.3",
  chevron: "m6 9.5 6 6 6-6",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth={1.7}
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      focusable="false"
      style={{ flex: "none" }}
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
