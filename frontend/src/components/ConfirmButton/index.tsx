import { Button, Group, Modal, Text, type ButtonProps } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import type { ReactNode } from "react";
import { useMessages } from "@/hooks/useMessages";

interface ConfirmButtonProps extends ButtonProps {
  children: ReactNode;
  question: string;
  hint: string;
  confirm: string;
  refuse?: string;
  onConfirm: () => void;
}

/** A button that asks once before it does something that cannot be undone. */
export function ConfirmButton({ children, question, hint, confirm, refuse, onConfirm, ...button }: ConfirmButtonProps) {
  const { t } = useMessages();
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <>
      <Button variant="default" {...button} onClick={open}>
        {children}
      </Button>
      <Modal opened={opened} onClose={close} title={question} closeButtonProps={{ "aria-label": t.common.close }}>
        <Text>{hint}</Text>
        <Group justify="flex-end" mt="lg" gap="xs">
          <Button variant="default" onClick={close} data-autofocus>
            {refuse ?? t.common.cancel}
          </Button>
          <Button
            color="red.9"
            onClick={() => {
              close();
              onConfirm();
            }}
          >
            {confirm}
          </Button>
        </Group>
      </Modal>
    </>
  );
}
