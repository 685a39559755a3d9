/** Whether this browser shows a notice when a training ends. The choice is remembered here, the leave is the browser's. */
const STORAGE_KEY = "affinage.endNotices";

export const canNotify = (): boolean => "Notification" in window;

export const wantsNotices = (): boolean =>
  canNotify() && Notification.permission === "granted" && localStorage.getItem(STORAGE_KEY) === "on";

/** Asks the browser where it has not been asked; returns whether notices are shown from now on. */
export async function chooseNotices(on: boolean): Promise<boolean> {
  const granted = on && canNotify() && (await Notification.requestPermission()) === "granted";
  localStorage.setItem(STORAGE_KEY, granted ? "on" : "off");
  return granted;
}

/** Shows one notice; a page in front needs none, and the same job is not announced twice. */
export function showNotice(title: string, body: string, tag: string): void {
  if (wantsNotices() && document.hidden) new Notification(title, { body, tag });
}
