import { SegmentedControl, useMantineColorScheme, VisuallyHidden, type MantineColorScheme } from "@mantine/core";
import { Icon, type IconName } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import { LANGUAGES, type Language } from "@/lib/language";
import classes from "./Preferences.module.css";

const NAMES: Record<Language, string> = { en: "English", fr: "Français" };
const SCHEMES: { value: MantineColorScheme; icon: IconName }[] = [
  { value: "light", icon: "sun" },
  { value: "auto", icon: "auto" },
  { value: "dark", icon: "moon" },
];

/** Language and appearance; both are remembered in this browser. */
export function Preferences() {
  const { t, language, setLanguage } = useMessages();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <div className={classes.row}>
      <SegmentedControl
        size="xs"
        aria-label={t.app.language}
        value={language}
        onChange={(value) => setLanguage(value)}
        data={LANGUAGES.map((code) => ({
          value: code,
          label: (
            <span lang={code} title={NAMES[code]}>
              <span aria-hidden="true">{code.toUpperCase()}</span>
              <VisuallyHidden>{NAMES[code]}</VisuallyHidden>
            </span>
          ),
        }))}
      />
      <SegmentedControl
        size="xs"
        aria-label={t.app.theme}
        value={colorScheme}
        onChange={setColorScheme}
        data={SCHEMES.map(({ value, icon }) => ({
          value,
          label: (
            <span className={classes.icon} title={t.app.themes[value]}>
              <Icon name={icon} size={15} />
              <VisuallyHidden>{t.app.themes[value]}</VisuallyHidden>
            </span>
          ),
        }))}
      />
    </div>
  );
}
