/** Below this share two figures count as the same. */
const SAME_SHARE = 0.02;

export interface Difference {
  /** "+1.2 GB", "−3 min", or nothing when it does not matter. */
  text: string | undefined;
  less: boolean;
}

/** How a figure of another plan differs from the present one, signed, in the reader's units. */
export function difference(other: number, present: number, show: (value: number) => string): Difference {
  const change = other - present;
  if (Math.abs(change) <= SAME_SHARE * Math.abs(present)) return { text: undefined, less: false };
  return { text: `${change > 0 ? "+" : "−"}${show(Math.abs(change))}`, less: change < 0 };
}
