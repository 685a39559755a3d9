import { Burger, Drawer } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { Link, useRouterState } from "@tanstack/react-router";
import { useEffect, type ReactNode } from "react";
import { healthQuery } from "@/api/system";
import { BrandMark } from "@/components/BrandMark";
import { Icon, type IconName } from "@/components/Icon";
import { MachineCard } from "@/components/MachineCard";
import { Preferences } from "@/components/Preferences";
import { ServerBanner } from "@/components/ServerBanner";
import { useEndNotices } from "@/api/useEndNotices";
import { useMessages } from "@/hooks/useMessages";
import type { Messages } from "@/locales/en";
import classes from "./AppFrame.module.css";

type Destination = Exclude<keyof Messages["nav"], "label">;

const DESTINATIONS: { to: `/${Destination}`; key: Destination; icon: IconName }[] = [
  { to: "/upload", key: "upload", icon: "upload" },
  { to: "/training", key: "training", icon: "sliders" },
  { to: "/dashboard", key: "dashboard", icon: "chart" },
  { to: "/playground", key: "playground", icon: "chat" },
  { to: "/models", key: "models", icon: "layers" },
  { to: "/machine", key: "machine", icon: "gauge" },
  { to: "/settings", key: "settings", icon: "lock" },
];

function Brand() {
  const { t } = useMessages();
  return (
    <Link to="/upload" className={classes.brand}>
      <BrandMark />
      <span>
        <span className={classes.name}>Affinage</span>
        <span className={classes.tagline}>{t.app.tagline}</span>
      </span>
    </Link>
  );
}

function Navigation() {
  const { t } = useMessages();
  return (
    <nav aria-label={t.nav.label} className={classes.nav}>
      {DESTINATIONS.map(({ to, key, icon }) => (
        <Link
          key={key}
          to={to}
          className={classes.link}
          activeOptions={{ includeSearch: false }}
          activeProps={{ "data-active": true, "aria-current": "page" }}
        >
          <Icon name={icon} />
          {t.nav[key]}
        </Link>
      ))}
    </nav>
  );
}

function Foot() {
  const { t } = useMessages();
  const { data } = useQuery(healthQuery);
  return (
    <div className={classes.foot}>
      <Preferences />
      <p>
        <a href="/docs">{t.app.apiDocs}</a>
        {data && <span> · {t.app.version(data.version)}</span>}
      </p>
    </div>
  );
}

/** Navigation on the left (a drawer on narrow screens), the page on the right. */
export function AppFrame({ children }: { children: ReactNode }) {
  const { t } = useMessages();
  const [opened, { toggle, close }] = useDisclosure(false);
  const path = useRouterState({ select: (state) => state.location.pathname });
  useEffect(close, [path, close]);
  useEndNotices();

  return (
    <div className={classes.frame}>
      <a href="#content" className={classes.skip}>
        {t.app.skip}
      </a>
      <header>
        <div className={classes.bar}>
          <Brand />
          <Burger opened={opened} onClick={toggle} size="sm" aria-label={t.app.menu} />
        </div>
        <div className={classes.side}>
          <Brand />
          <Navigation />
          <div className={classes.spring} />
          <MachineCard />
          <Foot />
        </div>
      </header>
      <Drawer
        opened={opened}
        onClose={close}
        size={288}
        title={t.app.menu}
        closeButtonProps={{ "aria-label": t.common.close }}
        classNames={{ body: classes.drawer ?? "" }}
      >
        <Navigation />
        <MachineCard />
        <Foot />
      </Drawer>
      <main id="content" tabIndex={-1} className={classes.main}>
        <div className={classes.inner}>
          <ServerBanner />
          {children}
        </div>
      </main>
    </div>
  );
}
