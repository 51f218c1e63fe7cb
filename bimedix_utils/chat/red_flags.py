"""Words of emergencies in English and Arabic: who writes them is told where to get help, before any
model text.

The lists err towards warning: a needless warning costs little. So a negation ("no chest pain"), a
case history and an exam question that names an emergency are warned about as well; only fixed terms
("suicide inhibitor") are let pass. How often that happens is measured on `data/red_flags`. A list
of words finds words: somebody who describes an emergency in other words gets no warning.
"""

import re
import unicodedata

from ..core.text import is_arabic, match_key

# English words are matched on folded text: lower case, every sign a space ("can't" is "can t").
_HURTS = r"(?:pains?|painful|pressure|tight\w*|aches?|aching|heaviness|heavy|squeez\w+|crush\w+|burn\w*|discomfort|hurt\w*|stabb\w+|elephant)"
_CANNOT = r"(?:can ?not|can ?t|could not|couldn ?t|unable to|not able to|no longer)"
_BODY = r"(?:body|face|arms?|legs?|hands?|side|mouth)"
_DRUGS = r"(?:pills?|tablets?|capsules?|tabs|meds|medicines?|medications?|insulin|drugs?)"
_TOOK = r"(?:took|taken|takes?|taking|swallow\w*|ate|eaten|ingest\w*|drank|drunk|drinks?|drinking)"
ENGLISH = {
    "chest pain": (
        rf"\b{_HURTS}(?: \w+){{0,5}} (?:chest|breast ?bone|sternum)\b",
        rf"\b(?:chest|breast ?bone|sternum) ?(?: \w+){{0,3}} ?{_HURTS}\b",
        r"\b(?:having|have|had|has|getting|this|think) (?:\w+ ){0,2}(?:heart attack|cardiac arrest)",
    ),
    "breathing": (
        rf"\b(?:{_CANNOT}|hard|hardly|barely|struggl\w+|difficult\w*|trouble|problems?|gasping|fighting|stop\w*|(?:isn|doesn|won|wasn) ?t|"
         r"is not|not)"
        r" (?:\w+ ){0,3}(?:breat?h\w*|air)\b",
        r"\b(?:short|shortness) of (?:breath|air)|\bbreathless|\bsuffocat|\bchok(?:e|es|ing)\b|\bbreathing (?:is )?(?:difficult|hard)",
        r"\b(?:lips|face|skin|fingers) (?:\w+ ){0,4}blue\b|\b(?:turn\w*|gone|going|went) blue\b",
        r"\b(?:tongue|throat|lips|airway) (?:\w+ ){0,3}(?:swell\w*|swollen|clos\w+|tight\w*)",
        r"\bswell\w* (?:\w+ ){0,3}(?:tongue|throat|lips)\b|\banaphyla|\b(?:severe|bad|serious) allergic reaction",
        r"\b(?:having|have|had|has|this|think|bad|severe) (?:\w+ ){0,2}asthma attack",
    ),
    "stroke": (
        r"\b(?:face|facial|mouth|smile|eyelid) (?:\w+ ){0,5}(?:droop\w*|sag\w*|crooked|lopsided|hang\w*|to one side)",
        r"\bdroop\w* (?:\w+ ){0,3}(?:face|mouth|smile)|\bslurr?\w*\b",
        rf"\b{_CANNOT} (?:\w+ )?(?:speak|talk|see|get (?:\w+ )?words)",
        r"\b(?:trouble|difficult\w*|problems?|struggl\w+|hard) (?:\w+ ){0,2}(?:speak\w*|talk\w*)\b|\bspeech (?:difficult\w*|disturbance)",
        rf"\b{_CANNOT} (?:\w+ ){{0,2}}(?:move|lift|raise|feel) (?:\w+ ){{0,4}}{_BODY}\b",
        r"\b(?:weak\w*|numb\w*|paraly\w+)(?: \w+){0,5} (?:one side|(?:left|right) (?:side|half|arm|leg|hand)|half)\b",
        rf"\b(?:one|left|right|half)(?: \w+){{0,2}} {_BODY}(?: \w+){{0,5}} (?:weak\w*|numb\w*|paraly\w*|limp|heavy)",
        r"\bsudden\w* (?:\w+ ){0,4}(?:weak\w*|numb\w*|confus\w*|blind\w*|vision|headache|speech)|\bworst headache",
        r"\b(?:having|have|had|has|this|think) (?:\w+ ){0,2}stroke\b(?! (?:volume|work))|\b(?:lost|losing) (?:\w+ )?(?:vision|sight)\b",
    ),
    "bleeding": (
        r"\bble+a?d\w*(?: \w+){0,6} (?:heav\w+|a lot|badly|profuse\w*|everywhere|not stop\w*|won ?t stop|(?:does|will|do) ?n ?o?t stop|"
        r"soak\w*|lots|severely|(?:can ?not|can ?t) (?:be )?stop\w*|(?:an|\w+) hours?)",
        r"\b(?:sever\w+|heav\w+|massive\w*|uncontroll\w+|profuse\w*|lots? of|losing) (?:\w+ ){0,2}"
        r"(?:ble+d\w*|blood(?! (?:sugar|glucose|pressure|lipids?))|ha?emorrhag\w*)\b",
        r"\bstop (?:the |this |my |his |her )?ble+d|\bblood (?:\w+ ){0,2}(?:everywhere|spurt\w*|gush\w*|pour\w*)",
        r"\bble+d\w* (?:out|to death)\b|\bha?emorrhaging\b",
        r"\b(?:vomit\w*|throw\w* up|threw up|cough\w*|spit\w*|puk\w+)(?: \w+){0,3} blood\b|\bcoffee ground|\bblack tarry",
        r"\b(?:black|bloody|tarry) stools?\b|\bblood in (?:my |his |her |the )?stools?\b",
        r"\bcut (?:\w+ )?(?:wrists?|artery)",
    ),
    "overdose": (
        r"\bover ?dos\w+|\b(?:swallowed|drank|took|been given|given) (?:\w+ ){0,3}poison|\bbeen poisoned",
        rf"\b{_TOOK} (?:far |way )?too (?:many|much)\b|\b{_TOOK} (?:\w+ ){{0,3}}(?:whole|entire|full|handful|fistful)\b",
        rf"\b{_TOOK} (?:\w+ ){{0,2}}all (?:\w+ ){{0,3}}{_DRUGS}\b",
        (rf"\b{_TOOK} (?:\w+ ){{0,2}}(?:\d{{2,}}|fifteen|twenty|thirty|forty|fifty|sixty|(?:a )?hundred|dozens?)(?! ?(?:mg|mcg|ml|g|"
         rf"mm)\b)(?: \w+){{0,4}} {_DRUGS}\b"),
        (rf"\b{_TOOK} (?:\w+ ){{0,4}}(?:bleach|antifreeze|drain|cleaner|detergent|pesticides?|rat poison|petrol|kerosene|"
         rf"(?:button )?batter(?:y|ies)(?! of)|acid)\b"),
        (rf"\b{_TOOK} (?:\w+ ){{0,3}}(?:bottle|box|pack|packet|strip)s? of (?:\w+ ){{0,3}}(?:{_DRUGS}|paracetamol|acetaminophen|tylenol|"
         rf"aspirin|ibuprofen)\b"),
    ),
    "suicide": (
        r"\b(?:suicid|sucid|suisid|suicde)\w*\b(?! (?:inhibit\w*|substrate|gene|inactivat\w*))",
        r"\b(?:kill|hurt|harm|hang|drown|shoot|burn)(?:ing|ed)? (?:my|him|her|them|our|your) ?sel(?:f|ves)\b|\bself ?harm",
        r"\bcutting (?:my|her|him) ?self\b|\b(?:cut\w*|slit\w*|slash\w*) (?:\w+ )?wrists?\b",
        r"\bhow (?:many|much)(?: \w+){0,10} (?:to die|to kill (?:me|my ?self|a person|some(?:one|body)))\b",
        r"\b(?:wish|hope)\w* (?:\w+ ){1,4}(?:not|t|never) wake up\b",
        r"\b(?:end|ending|take|taking|took) (?:my|his|her|their) (?:own )?li(?:fe|ves)\b|\bend(?:ing)? it all\b|\bgoing to end it\b",
        r"\bjump(?:ing)? (?:off|in front of) (?:the |a |my |this )?(?:\w+ )?(?:bridge|roof|building|balcony|cliff|train|car|bus|truck)\b",
        r"\b(?:want|wants|wanted|wish|going|ready|rather|better) (?:\w+ ){0,3}(?:to die|dead|die)\b|\bbetter off (?:dead|without me)\b",
        r"\b(?:don ?t|do not|doesn ?t|does not|no longer) (?:\w+ )?(?:want|wish) (?:to )?(?:live|be alive|wake up|exist|be here)\b",
        r"\bno (?:reason|point) (?:\w+ ){0,2}(?:to live|living|in living)\b|\bnot worth living\b",
    ),
    "collapse": (
        r"\buncons?c?i?ous\w*(?! (?:mind|bias\w*|thoughts?))|\bunresponsive|\bpass(?:ed|es|ing) out\b|\bfaint(?:ed|s|ing)?\b",
        r"\bcollapsed\b|\bno pulse\b|\bheart (?:has |just )?stopped\b",
        r"\b(?:seizing|convulsing)\b|\b(?:having|had|has) (?:\w+ ){0,2}(?:seizures?|convulsions?|fit)\b",
        r"\b(?:won ?t|doesn ?t|does not|can ?t|can ?not|not|isn ?t) (?:\w+ )?(?:wak\w+|respond\w*)\b",
    ),
}  # fmt: skip

# Arabic words are matched on folded text: no vowel marks, every alif plain, ta marbuta as ha, hamza
# on waw or ya as the bare letter.
_AL = r"(?:[وفبكل]?ال|لل|[وفبل])?"
_PAIN = r"(?:الما?|المي|الام|وجع|اوجاع|ضغطا?|ضيقا?|ثقلا?|حرقه|حرقان|انقباضا?|اعتصار|عصره|طعنات|وخز|نغزات|احتراق)"
_ACHES = r"(?:يولم|تولم|يوجع|توجع|مولم|موجع)\w*"
_SWALLOWED = r"(?:[ويتاسف]{0,3}(?:تناول|ابتلع|بتلع|بلع|شرب|اخذ|تجرع|تعاطي?))\w{0,3}"
_MEDICINE = (
    r"(?:ال)?(?:حبه|حبوبا?|حبات|قرصا?|اقراصا?|كبسول\w*|دواء|ادويه|ادويته\w*|ادويتي|مسكن\w*|منوم\w*)"
)
_UNABLE = (
    r"(?:لا|لم|ما|لن|غير|مش|مو|مب) (?:يعد |اعد |تعد |اكن"
    r" )?(?:ب?[ايتن]?(?:ستط[يـ]?ع|قدر|ت?مكن)\w*|قادر\w*|بامكان\w+)(?: علي| من)?"
)
_LIMB = r"(?:ذراع|يد|ساق|رجل|قدم|طرف|وجه|نصف|جانب|جسم)\w*"
_HAVING = r"(?:اصبت|اصيب\w*|مصاب\w*|اعاني|يعاني|تعاني|تعرض\w*|عند(?:ي|ه|ها)|لدي|لديه|لديها)"
ARABIC = {
    "chest pain": (
        rf"\b{_AL}{_PAIN}(?: \w+){{0,4}} {_AL}صدر(?:ي|ه|ها|ك|نا)?\b",
        rf"\b{_AL}صدر\w{{0,2}}(?: \w+){{0,2}} {_ACHES}|{_ACHES}(?: \w+){{0,2}} {_AL}صدر\w{{0,2}}\b",
        rf"\b{_HAVING}(?: \w+){{0,2}} [بل]?(?:نوبه|ازمه|جلطه|ذبحه|سكته|احتشاء)(?: عضله)? (?:في )?(?:ال)?(?:قلب\w*|صدري\w*)",
    ),
    "breathing": (
        rf"\b{_UNABLE} (?:ان )?(?:ال|[ايتن])?(?:تنفس|نفس|لتنفس|التقاط|اخذ نفس)\w*|\b(?:لا|لم) (?:يعد )?[ايتن]تنفس",
        (rf"\b{_AL}(?:صعوب\w*|ضيقا?|عسر|توقف\w*|انقطع\w*|انقطاع)(?: \w+){{0,3}} {_AL}(?:تنفس|نفس|انفاس)(?:ي|ه|ها)?\b(?! (?:النومي|"
         rf"اثناء النوم))"),
        rf"\bبالكاد (?:\w+ )?(?:ال|[ايتن])?تنفس|\b{_AL}(?:اختناق|مختنق\w*|[ايتن]?ختنق\w*)|\bنفس(?:ي|ه|ها) (?:ضيق|ينقطع|مقطوع|يضيق)",
        r"\b(?:شفت\w+|شفاه\w*|وجه\w*|جلد\w*) (?:\w+ )?(?:ا?زرق\w*|مزرق\w*)|\bازرق\w* (?:\w+ )?(?:شفت|شفاه|وجه)",
        r"\b(?:تورم\w*|انتفخ\w*|انتفاخ|يتورم|تتورم)(?: \w+)? (?:ال)?(?:لسان|حلق|شفت|شفاه|حنجر)\w*",
        r"\b(?:لسان|حلق|حنجر)\w* (?:\w+ )?(?:يتورم|تورم|منتفخ|متورم|ينغلق|يضيق)",
        r"\b(?:ال)?صدمه (?:ال)?(?:تحسسيه|تاقيه)|\b(?:ب)?حساسيه مفرطه|\bرد فعل تحسسي (?:شديد|خطير)",
        rf"\b{_HAVING}(?: \w+){{0,2}} [بل]?(?:ال)?(?:نوبه|ازمه) (?:ال)?ربو\b",
    ),
    "stroke": (
        r"\b(?:تدلي|تدلت|ارتخي|ارتخت|ارتخاء|مال|ميلان|انحرف|انحراف|اعوج\w*|التوي|التواء|هبوط)(?: \w+){0,2} (?:ال)?(?:وجه|فم)\w*",
        r"\b(?:ال)?(?:وجه|فم)\w* (?:\w+ ){0,2}(?:متدل\w*|مرتخ\w*|مايل|معوج|اعوج|انحرف|مال|ملتو\w*)",
        r"\b(?:ثقل|ثقيل|تلعثم\w*|صعوب\w*|تداخل|يتلعثم|تتلعثم)(?: \w+){0,2} (?:ال)?(?:كلام|نطق|لسان|تحدث|تكلم)\w*",
        r"\b(?:كلام|نطق|لسان)\w* (?:\w+ ){0,2}(?:ثقيل|متداخل|متلعثم|غير مفهوم|غير واضح)",
        rf"\b{_UNABLE} (?:ان )?(?:ال|[ايتن])?(?:كلام|نطق|تحدث|تكلم|رويه|حديث)",
        rf"\b{_UNABLE} (?:ان )?(?:تحريك|[ايتن]حرك|رفع|[ايتن]رفع) (?:\w+ )?{_LIMB}",
        rf"\b{_AL}(?:شلل\w*|خدر\w*|تنميل|ضعف|مشلول\w*|وهن)(?: \w+){{0,4}} [بل]?(?:ال)?(?:جانب|نصف|شق|احد جانبي|ذراع|ساق)\w*",
        rf"\b(?:نصف|جانب|ذراع|ساق)\w* (?:\w+ ){{0,2}}(?:مشلول\w*|مخدر\w*|خدر|ضعيف\w*|شل\w?)\b|\bتحريك (?:\w+ )?{_LIMB} فجاه",
        r"\b(?:اسوا صداع|صداع (?:\w+ ){0,2}(?:مفاجي|فجاه))|\bفقد\w*(?: \w+){0,2} (?:ال)?(?:بصر|رويه|نطق|كلام)\w*",
        rf"\b(?:{_HAVING}|هذه|انها)(?: \w+){{0,2}} [بل]?(?:ال)?(?:سكته|جلطه) (?:ال)?دماغيه",
    ),
    "bleeding": (
        r"\b(?:ال)?(?:نزيف|نزف)\w*(?: \w+){0,3} (?:ال)?(?:شديد\w*|حاد\w*|غزير\w*|كثير\w*|كبير\w*|مستمر\w*|بغزاره|بشده|بكثره)",
        r"\b[ايتن]نزف\w*|\b(?:نزيف|نزف|دم|جرح)\w*(?: \w+){0,3} (?:لا|لم|ولا|ولم) [يت]توقف",
        r"\b(?:ايقاف|وقف|اوقف|توقف) (?:هذا )?(?:ال)?(?:نزيف|نزف|دم)\b|\b[يت]?فقد\w* (?:الكثير من|كثيرا من|كميه كبيره من) (?:ال)?دم",
        (r"\b(?:[ايتو]*تقي\w{0,2}|[ايت]?ستفرغ\w?|قيء|استفراغ|[ايت]?سعل\w?|سعال|[ايت]?بصق\w?|بصاق)(?: \w+){0,2} "
         r"(?:ال)?(?:دما?|دموي\w*|مدمي)\b"),
        r"\b(?:ال)?دم (?:\w+ ){0,2}(?:يتدفق|يندفع|بغزاره|لا يتوقف|في كل مكان)|\bبراز\w* (?:\w+ )?(?:ا?سود|دموي)",
        r"\bقطع\w* (?:شرايين|شريان|معصم)\w*",
    ),
    "overdose": (
        r"\b(?:ال|ب)?جرع\w{1,3} (?:\w+ )?(?:ال)?(?:زايد\w*|مفرط\w*|مميت\w*|قاتل\w*|مضاعف\w*|كبيره جدا|عاليه جدا)",
        r"\b(?:فرط|زياده|افراط)(?: في)? (?:ال)?جرع",
        (rf"\b{_SWALLOWED}(?: \w+){{0,3}} (?:علبه|عبوه|شريطا?|زجاجه|قاروره|حفنه|كميه كبيره|كل|جميع|"
         rf"عشرات)(?: \w+){{0,2}} (?:من )?{_MEDICINE}"),
        rf"\b{_SWALLOWED}(?: \w+){{0,2}} (?:علبه|عبوه|شريطا?|حفنه|زجاجه)\b|\b{_SWALLOWED}(?: \w+){{0,2}} {_MEDICINE} (?:كثير\w*|عديده)",
        rf"\b{_SWALLOWED}(?: \w+){{0,2}} (?:كثيرا?|الكثير|العديد|عددا? كبيرا?) من {_MEDICINE}",
        (rf"\b{_SWALLOWED}(?: \w+){{0,2}} (?:\d{{2,}}|عشر(?:ين|ون)|ثلاث(?:ين|ون)|اربع(?:ين|ون)|خمس(?:ين|ون)|ست(?:ين|ون)|سبع(?:ين|ون)|"
         rf"ثمان(?:ين|ون)|تسع(?:ين|ون)|ما?ي(?:ه|تي)) {_MEDICINE}"),
        rf"\b{_SWALLOWED}(?: \w+){{0,3}} (?:ال)?(?:سما?|سموم|مبيدا?|مبيض\w*|كلور|منظفا?|مطهر\w*|بنزين|كيروسين|بطاريه)\b|\bتسمم(?:ت|نا)\b",
    ),
    "suicide": (
        r"\b\w{0,3}(?:انتحار|نتحر)\w{0,2}\b|\b\w{0,2}[اي]?قتل نفس(?:ي|ه|ها)\b|\b\w{0,2}شنق نفس(?:ي|ه|ها)\b",
        r"\b\w{0,2}(?:[اين]?نه[ياء]+|انهاء|ضع حدا? ل|تخلص من) ?(?:ل)?حيات(?:ي|ه|ها)\b|\b[اينت]?نهي كل شيء\b",
        r"\b(?:اتمني|يتمني|تتمني|اود|يود|تود|اريد|يريد|تريد|ارغب في|افضل) (?:ان )?(?:ال|[ايت])?موت\b|\bليتني (?:مت|اموت|لم اولد)",
        r"\b(?:بدي|عايز\w?|عاوز\w?|ابي|ابغي|ودي) اموت\b",
        r"\b(?:لا|لم اعد|لم يعد|لم تعد) (?:اريد|اود|ارغب|يريد|تريد|يرغب|ترغب)(?: في)?(?: ان)? (?:[ايت]عيش|العيش|الحياه|البقاء)",
        r"\b\w{0,2}(?:[ايت]?وذي|ايذاء|اذيه|جرح|[ايت]جرح) نفس(?:ي|ه|ها)\b|\bالحياه لا (?:تستحق|معني)",
        r"\bلا (?:معني|قيمه|فايده) (?:من |في )?(?:لل|ال|ل)?حيا|\b\w{0,3}قطع\w* (?:شرايين|معصم)(?:ي|ه|ها)\b",
        r"\bكم (?:\w+ ){1,5}(?:[يت]كفي|[يت]لزم|احتاج) (?:\w+ ){0,2}(?:ل{1,2}|لكي |كي )?[ايتن]?(?:موت|قتل)\b",
        r"\b(?:اتمني|يتمني|تتمني|اود|ليت\w*)(?: \w+){0,2} (?:الا|لا|لم|لو لم) [ايت]ستيقظ",
    ),
    "collapse": (
        r"\b(?:فقد\w*|فاقد\w*|غاب\w*|غايب\w*|غير)(?: \w+)?(?: عن| علي)? (?:ال|لل)?وعي\w*",
        r"\bاغمي علي|\bاغماء|\bمغمي علي|\bغشي علي|\bغير واعي?(?:ه|ا)?\b",
        r"\b(?:لا|لم|ولا|ولم) (?:\w+ )?[يت]?(?:ستجيب|ستجب|ستيقظ|صحو)\w*|\b(?:لا|بلا|بدون|دون) (?:يوجد )?نبض\b",
        r"\b[يت]تشنج\w*|\bنوبه (?:تشنج\w*|صرع\w*) (?:الان|منذ|لا)|\b(?:سقط|انهار)\w? (?:\w+ )?(?:فجاه|مغشيا)",
        (r"\b(?:عند(?:ي|ه|ها)|لدي\w?|لديها|اصيب\w*)(?: \w+){0,2} [بل]?(?:ال)?(?:(?:تشنج|اختلاج)\w*|نوب\w{1,2} (?:تشنج|صرع|"
         r"اختلاج)\w*)"),
        r"\b(?:توقف\w*|وقف) قلب(?:ي|ه|ها)\b|\bلا ينبض",
    ),
}  # fmt: skip
EMERGENCY = {
    "en": (
        "This may be an emergency. Call your local emergency number or go to the nearest emergency"
        " department now."
    ),
    "ar": (
        "قد تكون هذه حالة طارئة. يجب الاتصال برقم الطوارئ المحلي أو التوجه إلى أقرب قسم طوارئ الآن."
    ),
}
# Said in addition where somebody may want to die.
SUPPORT = {
    "en": (
        "You do not have to face this alone: stay with someone you trust, and keep away from"
        " anything you could harm yourself with."
    ),
    "ar": (
        "لا أحد مضطر إلى مواجهة هذا الأمر وحده: يُنصح بالبقاء مع شخص موثوق به، والابتعاد عن كل ما"
        " قد يُستعمل لإيذاء النفس."
    ),
}
_PATTERNS = {
    kind: tuple(re.compile(pattern) for pattern in (*ENGLISH[kind], *ARABIC[kind]))
    for kind in ENGLISH
}  # fmt: skip


def language(text: str) -> str:
    """`ar` when at least half of the letters are Arabic, else `en`: the answer follows the user's
    language.
    """
    return "ar" if is_arabic(text) else "en"


def _folded(text: str) -> str:
    """The text as the lists are written; signs that nobody sees (joiners, direction marks) would
    part a word and are taken out.
    """
    return match_key("".join(sign for sign in text if unicodedata.category(sign) != "Cf"))


def kinds(text: str) -> list[str]:
    """The kinds of emergency whose words stand in a text, such as `["stroke"]`; in any mixture of
    the two languages.
    """
    folded = _folded(text)
    return [
        kind
        for kind, patterns in _PATTERNS.items()
        if any(pattern.search(folded) for pattern in patterns)
    ]


def red_flag(text: str) -> str | None:
    """The emergency message in the text's language when it names an emergency, else None."""
    if not (found := kinds(text)):
        return None
    lang = language(text)
    return f"{EMERGENCY[lang]} {SUPPORT[lang]}" if "suicide" in found else EMERGENCY[lang]
