"""What the page after a plain form says, in the languages of the button (ingest/button/texts.js)."""

from __future__ import annotations

from typing import Final, NamedTuple


class FormTexts(NamedTuple):
    """The sentences of one language."""

    thanks: str
    stored: str
    not_counted: str
    later: str
    sign_in: str
    expired: str
    own_work: str
    too_fast: str
    broken: str
    back: str


ENGLISH: Final = FormTexts(
    "Thank you",
    "It is stored.",
    "Not counted",
    "We could not store it just now. Load this page again in a moment; it counts only once.",
    "Sign in on the page that you came from, then press again.",
    "You have been signed in for too long.",
    "You cannot flattr your own work.",
    "That was very fast. Wait a moment, then load this page again.",
    "The page that you came from sent something that we do not understand. Its owner can look it up by this word:",
    "Go back with your browser's back button.",
)
TEXTS: Final = {
    "en": ENGLISH,
    "de": FormTexts(
        "Danke",
        "Es ist gespeichert.",
        "Nicht gezählt",
        "Wir konnten es gerade nicht speichern. Laden Sie diese Seite gleich noch einmal; es zählt nur einmal.",
        "Melden Sie sich auf der Seite an, von der Sie kommen, und drücken Sie noch einmal.",
        "Ihre Anmeldung ist zu lange her.",
        "Sie können Ihr eigenes Werk nicht flattrn.",
        "Das ging sehr schnell. Warten Sie einen Moment und laden Sie diese Seite dann noch einmal.",
        "Die Seite, von der Sie kommen, hat etwas gesendet, das wir nicht verstehen. Ihr Betreiber kann dieses Wort "
        "nachschlagen:",
        "Zurück geht es mit der Zurück-Taste Ihres Browsers.",
    ),
    "fr": FormTexts(
        "Merci",
        "C'est enregistré.",
        "Non compté",
        "Nous n'avons pas pu l'enregistrer. Rechargez cette page dans un instant ; cela ne comptera qu'une fois.",
        "Connectez-vous sur la page d'où vous venez, puis appuyez à nouveau.",
        "Votre connexion est trop ancienne.",
        "Vous ne pouvez pas flattrer votre propre œuvre.",
        "C'était très rapide. Attendez un instant, puis rechargez cette page.",
        "La page d'où vous venez a envoyé quelque chose que nous ne comprenons pas. Son responsable peut chercher ce "
        "mot :",
        "Revenez avec le bouton « Précédent » de votre navigateur.",
    ),
    "es": FormTexts(
        "Gracias",
        "Está guardado.",
        "No contado",
        "No hemos podido guardarlo ahora. Vuelve a cargar esta página en un momento; solo cuenta una vez.",
        "Inicia sesión en la página de la que vienes y pulsa otra vez.",
        "Tu sesión es demasiado antigua.",
        "No puedes dar un flattr a tu propia obra.",
        "Ha sido muy rápido. Espera un momento y vuelve a cargar esta página.",
        "La página de la que vienes ha enviado algo que no entendemos. Su responsable puede buscar esta palabra:",
        "Vuelve con el botón «Atrás» del navegador.",
    ),
    "it": FormTexts(
        "Grazie",
        "È salvato.",
        "Non contato",
        "Non siamo riusciti a salvarlo ora. Ricarica questa pagina tra un momento; conta una volta sola.",
        "Accedi sulla pagina da cui vieni, poi premi di nuovo.",
        "Il tuo accesso è troppo vecchio.",
        "Non puoi dare un flattr alla tua opera.",
        "È stato molto veloce. Aspetta un momento, poi ricarica questa pagina.",
        "La pagina da cui vieni ha inviato qualcosa che non capiamo. Il suo gestore può cercare questa parola:",
        "Torna indietro con il pulsante del browser.",
    ),
    "pt": FormTexts(
        "Obrigado",
        "Está guardado.",
        "Não contado",
        "Não conseguimos guardá-lo agora. Carregue esta página de novo dentro de momentos; só conta uma vez.",
        "Inicie sessão na página de onde veio e carregue outra vez.",
        "A sua sessão é demasiado antiga.",
        "Não pode dar um flattr à sua própria obra.",
        "Foi muito rápido. Espere um momento e carregue esta página de novo.",
        "A página de onde veio enviou algo que não entendemos. O responsável pode procurar esta palavra:",
        "Volte com o botão de retroceder do navegador.",
    ),
    "nl": FormTexts(
        "Dank u",
        "Het is opgeslagen.",
        "Niet geteld",
        "We konden het nu niet opslaan. Laad deze pagina straks opnieuw; het telt maar één keer.",
        "Log in op de pagina waar u vandaan komt en druk nog eens.",
        "U bent te lang geleden ingelogd.",
        "U kunt uw eigen werk niet flattren.",
        "Dat ging erg snel. Wacht even en laad deze pagina dan opnieuw.",
        "De pagina waar u vandaan komt stuurde iets dat we niet begrijpen. De beheerder kan dit woord opzoeken:",
        "Ga terug met de terugknop van uw browser.",
    ),
    "sv": FormTexts(
        "Tack",
        "Det är sparat.",
        "Inte räknat",
        "Vi kunde inte spara det just nu. Ladda sidan igen om en stund; det räknas bara en gång.",
        "Logga in på sidan som du kom från och tryck igen.",
        "Du loggade in för länge sedan.",
        "Du kan inte flattra ditt eget verk.",
        "Det gick mycket fort. Vänta en stund och ladda sedan sidan igen.",
        "Sidan som du kom från skickade något som vi inte förstår. Den ansvariga kan slå upp det här ordet:",
        "Gå tillbaka med webbläsarens bakåtknapp.",
    ),
    "da": FormTexts(
        "Tak",
        "Det er gemt.",
        "Ikke talt med",
        "Vi kunne ikke gemme det lige nu. Genindlæs siden om et øjeblik; det tæller kun én gang.",
        "Log ind på siden, som du kom fra, og tryk igen.",
        "Du loggede ind for længe siden.",
        "Du kan ikke flattre dit eget værk.",
        "Det gik meget hurtigt. Vent et øjeblik, og genindlæs så siden.",
        "Siden, som du kom fra, sendte noget, som vi ikke forstår. Den ansvarlige kan slå dette ord op:",
        "Gå tilbage med browserens tilbageknap.",
    ),
    "pl": FormTexts(
        "Dziękujemy",
        "Zapisano.",
        "Nie policzono",
        "Nie udało się tego teraz zapisać. Za chwilę wczytaj tę stronę ponownie; policzymy to tylko raz.",
        "Zaloguj się na stronie, z której przychodzisz, i naciśnij ponownie.",
        "Od zalogowania minęło zbyt dużo czasu.",
        "Nie można dać flattra własnej pracy.",
        "To było bardzo szybkie. Zaczekaj chwilę i wczytaj tę stronę ponownie.",
        "Strona, z której przychodzisz, wysłała coś, czego nie rozumiemy. Jej właściciel może sprawdzić to słowo:",
        "Wróć przyciskiem „Wstecz” przeglądarki.",
    ),
    "uk": FormTexts(
        "Дякуємо",
        "Збережено.",
        "Не враховано",
        "Зараз не вдалося зберегти. За мить завантажте цю сторінку ще раз; це буде враховано лише один раз.",
        "Увійдіть на сторінці, з якої ви прийшли, і натисніть ще раз.",
        "Ви увійшли надто давно.",
        "Не можна дати flattr власній роботі.",
        "Це було дуже швидко. Зачекайте мить і завантажте цю сторінку ще раз.",
        "Сторінка, з якої ви прийшли, надіслала щось незрозуміле. Її власник може знайти це слово:",
        "Поверніться кнопкою «Назад» у браузері.",
    ),
    "zh": FormTexts(
        "谢谢",
        "已保存。",
        "未计入",
        "暂时无法保存。请稍后重新加载此页面；只会计入一次。",
        "请在来源页面登录，然后再按一次。",
        "您的登录时间太久了。",
        "您不能给自己的作品点 flattr。",
        "操作太快了。请稍等片刻，然后重新加载此页面。",
        "来源页面发送了我们无法理解的内容。网站所有者可以查询这个词：",
        "请使用浏览器的返回按钮返回。",
    ),
}


def language_of(accepted: bytes) -> str:
    """Of the languages that there are, the one that an Accept-Language header likes best; English if it names none."""
    best, weight = "en", 0.0
    for choice in accepted.decode("ascii", "replace").split(","):
        name, _, quality = choice.partition(";")
        language = name.strip().lower()[:2]
        liked = _quality(quality)
        if language in TEXTS and name.strip()[2:3] in {"", "-"} and liked > weight:
            best, weight = language, liked
    return best


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if not parameter.strip():
        return 1.0
    try:
        return float(value) if name == "q" and 0 <= float(value) <= 1 else 0.0
    except ValueError:
        return 0.0
