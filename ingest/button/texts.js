/* What a reader is told, in a dozen languages: why nothing was sent | that a press does not count (yet). */
const TEXTS = `en:Sign in on this site|Not counted
de:Bitte hier anmelden|Nicht gezählt
fr:Connectez-vous ici|Non compté
es:Inicia sesión aquí|No contado
it:Accedi a questo sito|Non contato
pt:Inicie sessão neste site|Não contado
nl:Log in op deze site|Niet geteld
sv:Logga in här|Inte räknat
da:Log ind her|Ikke talt med
pl:Zaloguj się tutaj|Nie policzono
uk:Увійдіть тут|Не враховано
zh:请登录本站|未计入`;

const known = {};

/* Numbers, the word for a month, and the two texts, in a language; in English, if there is no such language, or none.
 * Making them is slow, so once. */
export function wordsIn(lang) {
  try {
    return (known[lang] ??= [
      new Intl.NumberFormat(lang),
      new Intl.DisplayNames(lang, { type: "dateTimeField" }).of("month"),
      ...(RegExp(`${lang.slice(0, 2)}:(.*)`).exec(TEXTS) ?? /:(.*)/.exec(TEXTS))[1].split("|"),
    ]);
  } catch {
    return wordsIn("en");
  }
}
