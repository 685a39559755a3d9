import { useMessages } from "@/hooks/useMessages";
import classes from "./Upload.module.css";

const CSV = `question,answer
"What are your opening hours?","Monday to Friday, 8 to 18."
"Where do I send a return?","To our depot, free of charge."`;
const JSONL = `{"messages": [{"role": "user", "content": "What are your opening hours?"},
              {"role": "assistant", "content": "Monday to Friday, 8 to 18."}]}
{"instruction": "Translate into French", "input": "Good morning", "output": "Bonjour"}`;

/** Two files that work, for those who have to make theirs. */
export function FormatExamples() {
  const { t } = useMessages();
  return (
    <details className={classes.examples}>
      <summary>{t.upload.example}</summary>
      <div>
        {[
          { name: "CSV", text: CSV },
          { name: "JSONL", text: JSONL },
        ].map(({ name, text }) => (
          <figure key={name}>
            <figcaption>{name}</figcaption>
            <pre>{text}</pre>
          </figure>
        ))}
      </div>
    </details>
  );
}
