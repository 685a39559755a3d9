/** Français des pages de données : lignes en jetons, préréglages, apporter et corriger des données. */
import type * as english from "@/locales/en/data";

const plural = (count: number, one: string, many: string): string => (count < 2 ? one : many);

export const tokens: typeof english.tokens = {
  title: "La vérité sur les jetons",
  hint: "Exactement ce que le modèle verra, dans son propre gabarit, avant toute dépense.",
  model: "Lu par",
  notReady: "Choisissez un modèle présent sur cette machine.",
  median: "Ligne typique",
  longest: "Ligne la plus longue",
  count: (count, raw) => `${count} ${plural(raw, "jeton", "jetons")}`,
  trained: "Appris",
  trainedHint: "part des jetons",
  cut: "Au-delà de la limite",
  cutNone: "aucune",
  cutRows: (rows, lost) => `${rows} des lignes, ${lost} des jetons perdus`,
  cutWhole: (rows) => `${rows} des lignes, divisées`,
  sample: (counted, all) => `${counted} lignes examinées sur ${all}.`,
  histogram: "Longueur des lignes en jetons",
  bar: (first, last, rows, raw) => `${first} à ${last} jetons : ${rows} ${plural(raw, "ligne", "lignes")}`,
  lastBar: (first, rows, raw) => `${first} jetons et plus : ${rows} ${plural(raw, "ligne", "lignes")}`,
  limit: (length) => `limite ${length}`,
  lengths: "Longueurs en tableau",
  from: "Jetons",
  rows: "Lignes",
  checks: "Vérifications",
  status: { passed: "Réussi", warning: "À regarder", failed: "Empêche le lancement" },
  atFault: "Lignes :",
  row: "Une ligne en jetons",
  ofRow: "Ses jetons",
  rowNumber: "Ligne",
  show: "Montrer",
  preferred: "Réponse préférée",
  rejected: "Réponse écartée",
  legend: { trained: "appris", context: "contexte", special: "jeton spécial", cut: "après la coupe" },
  cutHere: (length) => `coupe à ${length} jetons`,
  templates: {
    chat: "Écrite avec le gabarit de conversation du modèle.",
    plain: "Ce modèle n’a pas de gabarit de conversation : écrite avec le gabarit simple indiqué.",
  },
  fallbacks: {
    last_turn: "Le gabarit réécrit les échanges précédents : seule la dernière réponse est apprise.",
    constructed: "Le gabarit ne peut pas écrire cette réponse telle quelle ; elle est reprise des données et fermée par le jeton de fin du gabarit.",
  },
  rowCount: (total, learned) => `${total} jetons, dont ${learned} appris`,
  all: (count) => `Montrer les ${count} jetons`,
};

export const presets: typeof english.presets = {
  label: "Préréglages par tâche",
  hint: "Un préréglage ne change rien tant que vous ne le reprenez pas ; chaque valeur reste modifiable dans les réglages avancés.",
  usual: "habituel pour ces lignes",
  apply: (name) => `Reprendre « ${name} »`,
};

export const bring: typeof english.bring = {
  anywhere: "Déposez le fichier n’importe où sur cette page, choisissez-le, ou collez des lignes.",
  paste: "Coller des lignes",
  pasteLabel: "Lignes à importer",
  pasteHint: "CSV avec en-tête, JSON, JSON Lines ou texte simple. Une copie depuis un tableur convient aussi.",
  pasteName: "colle",
  import: "Importer",
  speed: (sent, total, perSecond) => `${sent} sur ${total} à ${perSecond}/s`,
  left: (duration) => `encore ${duration}`,
  stop: "Arrêter",
  stages: { unpacking: "Décompression du fichier", reading: "Lecture et contrôle des lignes", splitting: "Choix des lignes réservées" },
};

export const findings: typeof english.findings = {
  title: "Un second regard sur les lignes",
  hint: "Répétitions, contradictions, refus, données personnelles, etc. Une correction crée une nouvelle version ; celle-ci reste telle quelle.",
  running: (share) => `Examen des lignes : ${share}`,
  failed: "Le second regard s’est interrompu ; les lignes peuvent tout de même servir à l’entraînement. Le journal du serveur dit pourquoi.",
  none: "Rien à signaler.",
  languages: (list) => `Langues des lignes : ${list}.`,
  fixes: { drop: "Écarter", mask: "Masquer", move: "Déplacer vers l’apprentissage" },
  other: (row) => `voir la ligne ${row}`,
  more: (count) => `En montrer ${count} de plus`,
  further: (count) => `et ${count} de plus`,
  edit: "Modifier",
  add: "Ajouter une ligne",
  editHint: "L’enregistrement crée une nouvelle version ; celle-ci reste telle quelle.",
  otherColumns: (count) => `${count} ${plural(count, "colonne non utilisée", "colonnes non utilisées")}`,
  save: "Enregistrer comme nouvelle version",
  leaveOut: "Écarter cette ligne",
  leaveOutBad: (count, raw) => `Écarter ${count} ${plural(raw, "ligne inutilisable", "lignes inutilisables")}`,
  badRows: "Télécharger les lignes inutilisables",
};

export const versions: typeof english.versions = {
  title: "Versions",
  hint: "Chacune est conservée, et une tâche garde celle avec laquelle elle a été lancée.",
  number: (version) => `Version ${version}`,
  first: "le fichier tel qu’il a été importé",
  shape: "Lignes en JSON Lines",
  download: "Télécharger",
};
