/* What a reader is told, in a dozen languages: why nothing was sent | that a press does not count (yet). */
const TEXTS = `en:Sign in on this site first|Not counted
de:Bitte zuerst hier anmelden|Nicht gezählt
fr:Connectez-vous d'abord ici|Non compté
es:Primero inicia sesión aquí|No contado
it:Prima accedi a questo sito|Non contato
pt:Inicie sessão neste site|Não contado
nl:Log eerst in op deze site|Niet geteld
sv:Logga först in här|Inte räknat
da:Log først ind her|Ikke talt med
pl:Najpierw zaloguj się tutaj|Nie policzono
uk:Спершу увійдіть тут|Не враховано
zh:请先登录本站|未计入`;

const known = {};

export const textsIn = (lang) => (RegExp(`${lang.slice(0, 2)}:(.*)`).exec(TEXTS) ?? TEXTS.split(/[:\n]/))[1].split("|");

/* What a language makes of something, by `make`; English, if there is no such language. Making is slow, so once. */
function once(lang, kind, make) {
  try {
    return (known[kind + lang] ??= make(lang));
  } catch {
    return make("en");
  }
}

export const numberIn = (lang, number) => once(lang, "number", (lang) => new Intl.NumberFormat(lang)).format(number);
export const monthIn = (lang) => once(lang, "month", (lang) => new Intl.DisplayNames(lang, { type: "dateTimeField" }).of("month"));
