import { useQuery } from "@tanstack/react-query";
import { hardwareQuery } from "@/api/system";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import classes from "./MachineCard.module.css";

/** What jobs run on, always in sight: device and memory. */
export function MachineCard() {
  const { t, format } = useMessages();
  const { data } = useQuery(hardwareQuery);
  const device = data?.devices[0];
  return (
    <div className={classes.card}>
      <p className={classes.title}>
        <Icon name="machine" size={16} />
        {t.machine.title}
      </p>
      {device && (
        <>
          <p className={classes.name}>{device.name}</p>
          <p className={classes.line}>
            {device.kind === "cuda" ? t.machine.gpu : t.machine.cpu},{" "}
            {t.machine.memory(format.bytes(device.memory_free_bytes), format.bytes(device.memory_total_bytes))}
          </p>
          {data.unused_reason && (
            <p className={classes.line}>
              {t.common.labelled(t.machine.unused, data.unused_reason)}
            </p>
          )}
        </>
      )}
      <p className={classes.line}>{t.app.privacy}</p>
    </div>
  );
}
