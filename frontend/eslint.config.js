import jsxA11y from "eslint-plugin-jsx-a11y";
import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

/** app > pages > components > api > hooks, lib > types: a folder imports only from folders to its right. */
const ORDER = ["app", "pages", "components", "api", ["hooks", "lib", "locales"], "types"];

const directions = ORDER.flatMap((level, index) =>
  [level].flat().map((folder) => {
    const above = ORDER.slice(0, index).flat();
    // A page is a leaf: it never imports another page. Components may use components, hooks may use lib, and so on.
    const own = folder === "pages" ? ["pages"] : [];
    const group = [...above, ...own].flatMap((name) => [`@/${name}`, `@/${name}/**`]);
    return {
      files: [`src/${folder}/**/*.{ts,tsx}`],
      rules: {
        "no-restricted-imports": [
          "error",
          {
            patterns: [
              { group: ["../*"], message: "Use @/… so that the direction of imports stays visible." },
              ...(group.length ? [{ group, message: `src/${folder} must not import from there (see eslint.config.js).` }] : []),
            ],
          },
        ],
      },
    };
  }),
);

export default tseslint.config(
  { ignores: ["dist/", "test-results/", "src/types/*.gen.ts"] },
  { files: ["**/*.{ts,tsx}"], extends: [...tseslint.configs.strict, jsxA11y.flatConfigs.strict] },
  {
    files: ["src/**/*.{ts,tsx}"],
    plugins: { "react-hooks": reactHooks },
    rules: {
      ...reactHooks.configs.recommended.rules,
      "max-lines": ["error", { max: 300, skipComments: true, skipBlankLines: true }],
      eqeqeq: "error",
      "no-console": "error",
    },
  },
  { files: ["src/locales/**"], rules: { "max-lines": "off" } },
  ...directions,
);
