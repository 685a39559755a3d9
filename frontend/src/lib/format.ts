/** Quantities for people, in the reader's language. Sizes are binary, as on the server: 1 GB = 2**30 bytes. */
import type { Language } from "@/lib/language";

const NUMBERS: Record<Language, string> = { en: "en-US", fr: "fr-FR" };
const DATES: Record<Language, string> = { en: "en-GB", fr: "fr-FR" };
const DAY: Record<Language, string> = { en: "d", fr: "j" };
const UNITS: Record<Language, readonly [string, string, string, string]> = {
  en: ["B", "KB", "MB", "GB"],
  fr: ["o", "Ko", "Mo", "Go"],
};
/** No-break space: a number and its unit stay on one line. */
const NBSP = "\u00a0";

export interface Formatter {
  number: (value: number, digits?: number) => string;
  compact: (value: number) => string;
  bytes: (count: number) => string;
  /** "42 s", "3 min 10 s", "2 h 05 min" */
  duration: (seconds: number) => string;
  /** An estimate, no more exact than it can be: "50 s", "4 min", "2 h 10 min", "31 h", "5 d" */
  estimate: (seconds: number) => string;
  /** A share 0..1 as whole per cent. */
  percent: (share: number) => string;
  /** A share 0..1 that may be tiny: "0.4%", "12%", "< 0.1%". */
  share: (share: number) => string;
  /** Learning rates and other small numbers: "3e-4" */
  small: (value: number) => string;
  dateTime: (iso: string) => string;
}

export function createFormatter(language: Language): Formatter {
  const locale = NUMBERS[language];
  const units = UNITS[language];
  const number = (value: number, digits = 0): string =>
    new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

  const two = (value: number): string => String(value).padStart(2, "0");
  const hours = (minutes: number): string => `${Math.floor(minutes / 60)}${NBSP}h${NBSP}${two(minutes % 60)}${NBSP}min`;

  return {
    number,
    compact: (value) => new Intl.NumberFormat(locale, { notation: "compact", maximumSignificantDigits: 3 }).format(value),
    bytes: (count) => {
      const power = count >= 2 ** 30 ? 3 : count >= 2 ** 20 ? 2 : count >= 1024 ? 1 : 0;
      return `${number(count / 1024 ** power, power === 3 ? 1 : 0)}${NBSP}${units[power]}`;
    },
    duration: (seconds) => {
      const whole = Math.max(0, Math.round(seconds));
      if (whole < 60) return `${whole}${NBSP}s`;
      if (whole < 3600) return `${Math.floor(whole / 60)}${NBSP}min${NBSP}${two(whole % 60)}${NBSP}s`;
      return hours(Math.floor(whole / 60));
    },
    estimate: (seconds) => {
      if (seconds < 90) return `${Math.max(5, Math.round(seconds / 5) * 5)}${NBSP}s`;
      const minutes = Math.round(seconds / 60);
      if (minutes < 60) return `${minutes}${NBSP}min`;
      const rounded = Math.round(minutes / 5) * 5;
      if (minutes < 10 * 60 && rounded % 60 !== 0) return hours(rounded);
      const wholeHours = Math.round(minutes / 60);
      return wholeHours < 72 ? `${wholeHours}${NBSP}h` : `${number(Math.round(wholeHours / 24))}${NBSP}${DAY[language]}`;
    },
    percent: (share) => new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 0 }).format(share),
    share: (share) => {
      const percent = (value: number, digits: number): string =>
        new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: digits }).format(value);
      if (share > 0 && share < 0.001) return `<${NBSP}${percent(0.001, 1)}`;
      return percent(share, share < 0.1 ? 1 : 0);
    },
    small: (value) => {
      if (value === 0 || (Math.abs(value) >= 0.01 && Math.abs(value) < 1e5)) {
        return new Intl.NumberFormat(locale, { maximumSignificantDigits: 4 }).format(value);
      }
      const [mantissa, exponent] = value.toExponential(2).split("e");
      return `${number(Number(mantissa), 2).replace(/[.,]?0+$/, "")}e${Number(exponent)}`;
    },
    dateTime: (iso) => new Intl.DateTimeFormat(DATES[language], { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso)),
  };
}
