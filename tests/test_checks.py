"""The rules that read a translation before any score is believed: each with a text it flags and
texts it leaves alone.
"""

import csv
import time
from pathlib import Path

import pytest

from bimedix_utils import sources, translation
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.language import language_codes, load_language
from bimedix_utils.core.text import normalise_letters
from bimedix_utils.sources.knowledge import KNOWLEDGE_COLUMNS
from bimedix_utils.translation import TextPair, checks
from bimedix_utils.translation.checks import Flag, corpus, quantities, surface, wording
from bimedix_utils.translation.checks import drugs as drug_names

pytestmark = pytest.mark.unit
DATA = Path(__file__).resolve().parents[1] / "data"
ARABIC = load_language("ar", DATA / "knowledge")


def pair_of(source, candidate, language=ARABIC):
    """One pair of texts, or two lists of texts, as the checks read them."""
    return TextPair(
        *([text] if isinstance(text, str) else text for text in (source, candidate)), language
    )


def flags(check, source, candidate, language=ARABIC):
    """(severity, reason) of what one check finds in one pair of texts, or in two lists of texts."""
    return list(check(pair_of(source, candidate, language)))


# Numbers


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("50 mg", ["50"]),
        ("1,000 and 5,000,000", ["1000", "5000000"]),
        ("٥٠ ملغ و١٬٠٠٠ و٢٫٥", ["50", "1000", "2.5"]),
        ("۵ ملغ", ["5"]),
        ("2.0 is not 2", ["2", "2.0"]),
        ("120/80 and 3-5, 7.", ["120", "3", "5", "7", "80"]),
        ("1, 2, 3", ["1", "2", "3"]),
        ("B12 و CD4", ["12", "4"]),
        ("none", []),
    ],
)
def test_numbers_of(text, numbers):
    assert sorted(checks.numbers_of(text).elements()) == sorted(numbers)


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("Give 50 mg twice.", "يعطى 50 ملغ مرتين."),
        ("Give 1,500 mg.", "يعطى ١٥٠٠ ملغ."),
        ("pH 7.35, 38.5 °C", "درجة الحرارة ٣٨٫٥ °م والباهاء 7.35"),
        ("Rest well.", "استرح جيدًا."),
    ],
)
def test_same_numbers_pass(source, candidate):
    assert flags(quantities.numbers, source, candidate) == []


@pytest.mark.parametrize(
    "source, candidate, reason",
    [
        ("Give 50 mg.", "يعطى 500 ملغ.", "part 1: lost 50, new 500"),
        ("Give 50 mg.", "يعطى القليل.", "part 1: lost 50, new -"),
        ("Give a little.", "يعطى 50 ملغ.", "part 1: lost -, new 50"),
        ("3 mg for 3 days", "3 ملغ لعدة أيام", "part 1: lost 3, new -"),
        ("0.5 mg", "5 ملغ", "part 1: lost 0.5, new 5"),
        (["Rest.", "120/80"], ["استرح.", "130/80"], "part 2: lost 120, new 130"),
        ("for 3 days", "لمدة ثلاثين يومًا", "part 1: lost 3, new -"),
        ("for 3 days", "لمدة ثلاثة عشر يومًا", "part 1: lost 3, new -"),
        ("for 5 days", "لمدة خمسين يومًا", "part 1: lost 5, new -"),
        ("for 8 days", "لمدة ثمانين يومًا", "part 1: lost 8, new -"),
        ("for 10 days", "لمدة عشرين يومًا", "part 1: lost 10, new -"),
        ("week 3", "الأسبوع الثالث عشر", "part 1: lost 3, new -"),
    ],
)
def test_changed_numbers_are_rejected(source, candidate, reason):
    assert flags(quantities.numbers, source, candidate) == [("reject", reason)]


@pytest.mark.parametrize(
    "number, same, other",
    [
        (7, "هفت", "هفتاد"),
        (8, "هشت", "هشتاد"),
        (5, "پنج", "پنجاه"),
        (4, "چهار", "چهارده"),
        (6, "شش", "ششصد"),
    ],
)
def test_tens_and_hundreds_are_no_units_in_persian_either(number, same, other):
    persian = load_language("fa")
    assert flags(quantities.numbers, f"for {number} days", f"به مدت {same} روز", persian) == []
    assert flags(quantities.numbers, f"for {number} days", f"به مدت {other} روز", persian) == [
        ("reject", f"part 1: lost {number}, new -")
    ]


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("for 3 days", "لمدة ثلاثة أيام"),
        ("after 2 weeks", "بعد أسبوعين"),
        ("type II diabetes", "السكري من النوع 2"),
        ("twice a day", "2 مرات يوميًا"),
        ("stage 0", "المرحلة صفر"),
        ("the 3rd nerve", "العصب الثالث"),
        ("2 doses were given", "أُعطيت جرعتان"),
        ("8 hours", "ثماني ساعات"),
    ],
)
def test_small_numbers_may_be_words(source, candidate):
    assert flags(quantities.numbers, source, candidate) == []


def test_a_number_that_is_part_of_a_name_goes_to_a_human():
    assert flags(quantities.numbers, "higher O2 levels", "مستويات أكسجين أعلى") == [
        ("human", "part 1: lost 2, part of a name such as O2")
    ]


# Units and frequency


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("500 mg", "500 ملغ"),
        ("500 mg", "٥٠٠ ملليغرام"),
        ("500 mg", "500 مجم"),
        ("500 mg", "500 mg"),
        ("75 mcg", "75 ميكروغرام"),
        ("6 kg and 7 g", "6 كغ و7 غ"),
        ("120/80 mmHg", "120/80 ملم زئبق"),
        ("38.5 °C", "38.5 °م"),
        ("5-10 mL", "5-10 مل"),
        ("10 to 15 minutes", "من 10 إلى 15 دقيقة"),
        ("a 68-year-old man", "رجل عمره 68 عامًا"),
        ("at 32 weeks", "في الأسبوع 32"),
        ("18 gauge", "عيار 18"),
        ("8.6 g/dL", "8.6 غ/دل"),
        ("20%", "20 بالمئة"),
        ("by 52 m and by 4 m", "52 م و4 م"),
        ("12 breaths per minute", "12 تنفسًا في الدقيقة"),
        ("Stage 3 disease", "داء المرحلة 3"),
    ],
)
def test_kept_units_pass(source, candidate):
    assert flags(quantities.units, source, candidate) == []


@pytest.mark.parametrize(
    "source, candidate, reason",
    [
        ("500 mg", "500 غرام", "500 mg became 500 g"),
        ("75 mcg", "75 ملغ", "75 mcg became 75 mg"),
        ("for 6 hours", "لمدة 6 أيام", "6 hour became 6 day"),
        ("5 mL", "5 لتر", "5 mL became 5 L"),
        ("38 °C", "38 فهرنهايت", "38 celsius became 38 fahrenheit"),
    ],
)
def test_another_unit_is_rejected(source, candidate, reason):
    assert flags(quantities.units, source, candidate) == [("reject", f"part 1: {reason}")]


def test_a_lost_unit_goes_to_a_human():
    assert flags(quantities.units, "18 gauge", "18 جيجا") == [
        ("human", "part 1: 18 has lost its unit gauge")
    ]


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("twice a day", "مرتين يوميًا"),
        ("three times daily", "ثلاث مرات في اليوم"),
        ("every 8 hours", "كل 8 ساعات"),
        ("every six hours", "كل ست ساعات"),
        ("q8h", "كل ٨ ساعات"),
        ("bid", "مرتين في اليوم"),
        ("once a week", "مرة واحدة أسبوعيًا"),
        ("three times a day", "كل 8 ساعات"),
        ("many times", "مرات كثيرة"),
    ],
)
def test_kept_frequency_passes(source, candidate):
    assert flags(quantities.frequency, source, candidate) == []


def test_another_frequency_is_rejected_and_a_lost_one_goes_to_a_human():
    assert flags(quantities.frequency, "twice a day", "ثلاث مرات يوميًا") == [
        ("reject", "part 1: 2 times a day became 3")
    ]
    assert flags(quantities.frequency, "every 8 hours", "كل 6 ساعات") == [
        ("reject", "part 1: every 8 hours became 6")
    ]
    assert flags(quantities.frequency, "twice a day", "يوميًا") == [
        ("human", "part 1: 2 times a day was not found")
    ]


# Negation


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("Which is NOT a vitamin?", "أي مما يأتي ليس فيتامينًا؟"),
        ("All are true EXCEPT:", "كل ما يأتي صحيح عدا:"),
        ("All are vitamins except one", "كلها فيتامينات باستثناء واحد"),
        ("He has no fever.", "لا توجد لديه حمى."),
        ("She denies chest pain.", "تنفي وجود ألم في الصدر."),
        ("without fever", "بدون حمى"),
        ("I don't smoke.", "أنا لا أدخن."),
        ("It never helps.", "لم ينفع قط."),
        ("Isn't that dangerous?", "أليس هذا خطيرًا؟"),
        ("Without it, bones are weak.", "وفي غيابه تضعف العظام."),
        ("All are vitamins except one", "كلها فيتامينات ما عدا واحدًا"),
        ("It cannot be given.", "ولا يمكن إعطاؤه."),
        ("He has a fever.", "لديه حمى."),
        ("A notable finding.", "علامة بارزة."),
    ],
)
def test_kept_negation_passes(source, candidate):
    assert flags(wording.negation, source, candidate) == []


@pytest.mark.parametrize(
    "source, candidate, word",
    [
        ("Which of these is NOT a vitamin?", "أي مما يأتي من الفيتامينات؟", "'NOT'"),
        ("All are true EXCEPT:", "كل العبارات الآتية صحيحة:", "'EXCEPT'"),
        ("He has no fever.", "لديه حمى.", "'no'"),
        ("I don't smoke.", "أنا أدخن.", '"don\'t"'),
        ("He denies fever.", "يشكو من حمى.", "'denies'"),
    ],
)
def test_lost_negation_goes_to_a_human(source, candidate, word):
    assert flags(wording.negation, source, candidate) == [
        ("human", f"part 1: no counterpart of {word}")
    ]


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("He has pain and no fever.", "لديه ألم وحمى."),
        ("Which drug is NOT given for severe pain?", "أي دواء يعطى عند حدوث ألم شديد؟"),
        ("The tissue is not inflamed.", "النسيج ملتهب."),
        ("Do not use it before the assessment.", "استعمله قبل التقييم."),
        ("It is not toxic to the liver.", "إنه سام للكبد فقط."),
        ("The knee reflex is not present.", "المنعكس الرضفي موجود."),
        ("He does not need the required dose.", "يحتاج إلى الجرعة اللازمة."),
        ("The result was abnormal in patients.", "كانت النتيجة سوية لدى المرضى."),
    ],
)
def test_everyday_words_that_look_like_denials_are_none(source, candidate):
    assert len(flags(wording.negation, source, candidate)) == 1


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("Which drug is NOT a beta blocker?", "ما الدواء الذي ينتمي إلى حاصرات بيتا؟"),
        (
            "What is the most likely diagnosis in this man without fever?",
            "ما التشخيص الأرجح لدى هذا الرجل المصاب بالحمى؟",
        ),
    ],
)
def test_what_is_no_negation(source, candidate):
    """Most Arabic question stems begin with «ما»: just those whose NOT and EXCEPT must survive."""
    assert len(flags(wording.negation, source, candidate)) == 1


def test_negation_with_a_curly_apostrophe():
    assert len(flags(wording.negation, "I don’t smoke.", "أنا أدخن.")) == 1


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("Which of the following is NOT true?", "أي مما يلي غير صحيح؟"),
        ("All of these EXCEPT:", "كل ما يلي ما عدا:"),
        ("Which is LEAST likely?", "أيها الأقل احتمالًا؟"),
        ("Which of the following is not true?", "أي العبارات الآتية خاطئة؟"),
        ("It is fine except for a cough.", "حالته جيدة مع سعال."),
    ],
)
def test_a_kept_exception_passes(source, candidate):
    assert flags(wording.exception, source, candidate) == []


@pytest.mark.parametrize(
    "source",
    [
        "Which of the following is NOT true?",
        "Which of the following is not true?",
        "All are true EXCEPT:",
    ],
)
def test_a_lost_exception_is_rejected(source):
    ((severity, reason),) = flags(wording.exception, source, "أي مما يلي صحيح؟")
    assert severity == "reject" and "the question asks for the opposite" in reason


# Sides


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("pain in the left arm", "ألم في الذراع اليسرى"),
        ("the right eye and the left ear", "العين اليمنى والأذن اليسرى"),
        ("right ventricular failure", "قصور البطين الأيمن"),
        ("bilateral edema", "وذمة في كلا الجانبين"),
        ("Go right away; he left the room.", "اذهب فورًا؛ لقد غادر الغرفة."),
        ("You are right, it was left out.", "أنت محق، لقد أغفل ذلك."),
    ],
)
def test_kept_sides_pass(source, candidate):
    assert flags(wording.sides, source, candidate) == []


def test_side_effects_are_no_sides():
    assert len(flags(wording.sides, "Bilateral pneumonia.", "التهاب رئوي مع آثار جانبية.")) == 1


def test_a_changed_side_is_rejected_and_a_lost_one_goes_to_a_human():
    assert flags(wording.sides, "the left lung", "الرئة اليمنى") == [
        ("reject", "part 1: left became right")
    ]
    assert flags(wording.sides, "pain in the right leg", "ألم في الساق") == [
        ("human", "part 1: right was not found")
    ]
    assert flags(wording.sides, "bilateral edema", "وذمة") == [
        ("human", "part 1: both was not found")
    ]


# Translated, clean, complete


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("The femoral nerve supplies the quadriceps.", "يغذي العصب الفخذي العضلة رباعية الرؤوس."),
        ("DNA", "DNA"),
        ("CFTR", "CFTR"),
        (
            "Escherichia coli lives in the healthy gut.",
            "تعيش جرثومة Escherichia coli في أمعاء الإنسان السليم.",
        ),
        ("120/80", "120/80"),
        ("TSH, CA-125 and PSA were ordered today.", "طلبت اليوم فحوص TSH و CA-125 و PSA."),
    ],
)
def test_translated_text_passes(source, candidate):
    assert flags(surface.untranslated, source, candidate) == []


def test_english_left_is_rejected():
    text = "The femoral nerve supplies the quadriceps muscle."
    assert flags(surface.untranslated, text, text) == [
        ("reject", "part 1: English left: femoral nerve supplies the quadriceps")
    ]
    half = (
        "العصب الفخذي the femoral nerve supplies the quadriceps في الفخذ من الأمام والخلف والجانب"
        " وما حولها"
    )
    assert [severity for severity, _ in flags(surface.untranslated, text, half)] == ["reject"]
    other = "Der Oberschenkelnerv versorgt ihn."
    assert flags(surface.untranslated, text, other) == [
        ("reject", f"part 1: English left: {other[:40]}")
    ]


def test_each_untranslated_part_is_named():
    text = "Drink plenty of water and rest well."
    found = flags(surface.untranslated, [text, "Rest.", text], [text, "استرح.", text])
    assert [reason[:6] for _, reason in found] == ["part 1", "part 3"]


@pytest.mark.parametrize(
    "candidate",
    [
        "إليك الترجمة: ضغط الدم",
        "Sure! ضغط الدم",
        "Here is the translation: ضغط الدم",
        "بصفتي نموذجًا لغويًا لا أستطيع",
        "I'm sorry, ضغط الدم",
        "بالتأكيد! فيما يلي ترجمة النص: ضغط الدم",
        "عذرًا، لا أستطيع ترجمة هذا.",
    ],
)
def test_talk_around_a_translation_is_rejected(candidate):
    (found,) = flags(surface.preamble, ["source", "source"], ["نص", candidate])
    assert found[0] == "reject" and found[1].startswith("part 2: ")


@pytest.mark.parametrize("candidate", ["ضغط \ufffd الدم", "\ufefb يوجد", "ﷲ أعلم", "Ø§Ù„Ø¯Ù…"])
def test_broken_characters_are_rejected(candidate):
    (found,) = flags(surface.characters, ["source", "source"], ["نص", candidate])
    assert found[0] == "reject" and found[1].startswith("part 2: character U+")


@pytest.mark.parametrize(
    "candidate",
    ["ضغط الدم مرتفع جدًا؛ راجع الطبيب.", "ما قيمة pH؟ «7.4»", "β و µ و °م", "أسفل الظهر", ""],
)
def test_clean_text_passes(candidate):
    assert (
        flags(surface.preamble, "source", candidate)
        == flags(surface.characters, "source", candidate)
        == []
    )


def test_number_of_parts():
    assert flags(surface.part_count, ["a", "b"], ["أ", "ب"]) == []
    assert flags(surface.part_count, ["a", "b"], ["أ"]) == [
        ("reject", "2 parts in the source, 1 in the translation")
    ]
    assert flags(surface.part_count, ["a"], ["أ", "ب"]) == [
        ("reject", "1 parts in the source, 2 in the translation")
    ]
    assert flags(surface.part_count, ["a", "b"], ["أ", " "]) == [("reject", "part 2 is empty")]


@pytest.mark.parametrize("times, found", [(0.44, 1), (0.46, 0), (1.0, 0), (1.89, 0), (1.91, 1)])
def test_length(times, found):
    assert len(flags(surface.length, "x" * 1000, "ن" * int(1000 * times))) == found


def test_length_of_short_texts_says_nothing():
    assert flags(surface.length, "x" * 79, "ن") == []
    assert flags(surface.length, ["x" * 40, "x" * 40], ["ن", "ن"]) == [
        ("human", "0.03 times the letters of the source")
    ]


# Drugs


@pytest.fixture
def drugs(tmp_path):
    """A check that knows propranolol (two spellings), atenolol, warfarin and naloxone."""
    facts = {
        "drug_class": [
            ("propranolol", "beta blocker", "بروبرانولول", "حاصرات بيتا"),
            ("atenolol", "beta blocker", "أتينولول", "حاصرات بيتا"),
        ],
        "drug_use": [
            ("propranolol", "tremor", "بروبرانولول", "الرعاش"),
            ("Propranolol", "x", "بروبرانولُول المديد", "س"),
            ("warfarin", "thrombosis", "وارفارين", "الخثار"),
            ("ferrous sulfate", "anemia", "كبريتات الحديدوز", "فقر الدم"),
        ],
        "poison_antidote": [
            ("morphine", "naloxone", "المورفين", "نالوكسون"),
            ("insulin", "glucose", "الإنسولين", "الغلوكوز"),
        ],
    }
    for name, rows in facts.items():
        with open(tmp_path / f"{name}.csv", "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows(
                [
                    KNOWLEDGE_COLUMNS,
                    *((s_en, o_en, s_ar, o_ar, "", "") for s_en, o_en, s_ar, o_ar in rows),
                ]
            )
    language = load_language("ar", tmp_path)
    return lambda pair: drug_names.drugs(TextPair(pair.source, pair.candidate, language))


def test_drug_names_leave_out_phrases_and_laboratory_values(tmp_path, drugs):
    names = load_language("ar", tmp_path).drugs
    assert set(names) == {"propranolol", "atenolol", "warfarin", "naloxone"}
    assert names["propranolol"] == {"بروبرانولول", "بروبرانولول المديد"}


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("Propranolol is a beta blocker.", "بروبرانولول من حاصرات بيتا."),
        ("treated with warfarin", "عولج بالوارفارين"),
        ("warfarin and atenolol", "وارفارين وأتينولول"),
        ("for naloxone", "للنالوكسون"),
        ("Beta blockers help.", "تفيد حاصرات بيتا."),
        ("An unknown drug, foozumab", "دواء غير معروف، فوزوماب"),
        ("Give ATENOLOL", "يعطى اتينولول"),
    ],
)
def test_kept_drugs_pass(source, candidate, drugs):
    assert flags(drugs, source, candidate) == []


def test_a_changed_drug_goes_to_a_human(drugs):
    assert flags(drugs, "Give propranolol.", "يعطى أتينولول.") == [
        ("human", "part 1: propranolol was not found in the translation"),
        ("human", "part 1: atenolol is in the translation and not in the source"),
    ]
    assert flags(drugs, ["Rest.", "Give warfarin."], ["استرح.", "يعطى دواء."]) == [
        ("human", "part 2: warfarin was not found in the translation")
    ]
    assert flags(drugs, "Give a drug.", "يعطى وارفارين.") == [
        ("human", "part 1: warfarin is in the translation and not in the source")
    ]


def test_swapped_drugs_of_two_parts_are_both_found(drugs):
    assert len(flags(drugs, ["warfarin", "atenolol"], ["أتينولول", "وارفارين"])) == 4


@pytest.mark.parametrize(
    "source, candidate",
    [("rest and with warfarin", "الراحة وبالوارفارين"), ("and for warfarin", "وللوارفارين")],
)
def test_two_particles_in_front_of_a_drug(source, candidate, drugs):
    assert flags(drugs, source, candidate) == []


@pytest.mark.parametrize(
    "source, candidate, found",
    [
        ("Give vinblastine.", "يعطى فينكريستين.", "vinblastine may have become"),
        ("Give hydroxyzine.", "يعطى هيدرالازين.", "hydroxyzine"),
        ("Treat with lamotrigine.", "يعالج بدواء لاميفودين.", "lamotrigine"),
        ("Treat with cefazolin.", "يعالج بالراحة.", "cefazolin was not found"),
    ],
)
def test_a_drug_that_no_table_knows_is_compared_by_its_consonants(source, candidate, found):
    ((severity, reason),) = flags(drug_names.drugs, source, candidate)
    assert severity == "human" and found in reason


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("Give vinblastine.", "يعطى الفينبلاستين."),
        ("Give epinephrine.", "يعطى الأدرينالين."),
        ("Give acetaminophen.", "يعطى باراسيتامول."),
        ("cefazolin and metronidazole", "السيفازولين والميترونيدازول"),
        ("an antihistamine", "مضاد للهستامين"),
        ("Give cefazolin.", "يعطى cefazolin."),
    ],
)
def test_a_drug_may_have_another_name_or_keep_its_latin_letters(source, candidate):
    assert flags(drug_names.drugs, source, candidate) == []


# Form

LONG = (
    "The patient came to the clinic with fever and a cough and was told to rest at home. He should"
    " come back in a week."
)


def test_a_cut_text_is_rejected():
    whole_text = (
        "حضر المريض إلى العيادة مصابًا بحمى وسعال وقيل له أن يستريح في بيته. وعليه أن يعود بعد"
        " أسبوع."
    )
    assert flags(surface.truncation, LONG, whole_text) == []
    assert [severity for severity, _ in flags(surface.truncation, LONG, whole_text[:50])] == [
        "reject"
    ]
    assert [severity for severity, _ in flags(surface.truncation, LONG, whole_text[:80])] == [
        "human"
    ]


def test_a_loop_is_rejected_and_a_repeated_source_is_not():
    assert flags(surface.repetition, "Pain.", "ألم في الصدر " * 6) == [
        ("reject", "part 1: the same 3 words 6 times in a row")
    ]
    assert flags(surface.repetition, "ha ha ha ha ha ha ha", "ها ها ها ها ها ها ها") == []


def test_two_options_that_became_one_are_rejected():
    found = flags(
        surface.part_count,
        ["Which?", "renal artery", "renal vein"],
        ["أيها؟", "الشريان الكلوي", "الشريان الكلوي"],
    )
    assert found == [("reject", "part 3 says the same as part 2")]
    assert flags(surface.part_count, ["Which?", "yes", "yes"], ["أيها؟", "نعم", "نعم"]) == []


@pytest.mark.parametrize("candidate", ["```json نص```", "نص {subject}", "نص [INST]", "<b>نص</b>"])
def test_markup_that_the_source_has_not_is_rejected(candidate):
    assert [severity for severity, _ in flags(surface.markup, "text", candidate)] == ["reject"]


def test_the_instructions_in_a_translation_are_rejected():
    words = "Keep every number, unit, negation and drug name."
    ((severity, reason),) = flags(surface.prompt_overlap, "Fever.", f"حمى. {words}")
    assert severity == "reject" and "words of the instructions" in reason
    assert flags(surface.prompt_overlap, words, f"حمى. {words}") == []


def test_letters_of_a_third_script_are_rejected():
    assert flags(surface.foreign_script, "fever", "حمى лихорадка") == [
        ("reject", "part 1: letters of another script: лихорадк")
    ]


# More than one record


def test_one_translation_for_different_sources_is_found_in_both_rows():
    item = ["كيف تكتشف عنوانًا مزيفًا على الشبكة؟", "بجدار حماية"]
    rows = [
        ("a", pair_of(["Which nerve was injured here?", "radial"], item)),
        ("b", pair_of(["What is the dose?", "50 mg"], item)),
        (
            "c",
            pair_of(
                ["What is the dose?", "20 mg"],
                ["ما الجرعة المعتادة لهذا الدواء عند البالغين؟", "20 ملغ"],
            ),
        ),
        (
            "d",
            pair_of(
                ["What is the dose?", "50 mg"],
                ["ما الجرعة المعتادة لهذا الدواء عند البالغين؟", "50 ملغ"],
            ),
        ),
    ]
    found = corpus.repeated_targets(rows)
    assert (
        set(found) == {"a", "b"}
        and found["b"][0].reason == "part 1: the same translation as in a"
        and found["a"][0].severity == "reject"
    )


def test_an_unrelated_text_is_inadequate_and_the_right_one_is_not():
    question = "Which vitamin deficiency causes night blindness in children?"
    rows = [
        ("right", pair_of(question, "ما الفيتامين الذي يسبب نقصه العشى الليلي لدى الأطفال؟")),
        ("wrong", pair_of(question, "كيف يمكن إصلاح محرك السيارة في الورشة؟")),
    ]
    found, read = corpus.adequacy(rows)
    assert (
        set(found) == {"wrong"}
        and read == 2
        and found["wrong"][0].severity == "reject"
        and "similarity" in found["wrong"][0].reason
    )


def test_rows_with_numbers_and_names_found_again_need_no_encoder(monkeypatch):
    monkeypatch.setattr(corpus, "encoder", lambda: pytest.fail("the encoder was asked"))
    text = "A 68-year-old man has hemoglobin 8.6 g/dL, MCV 70 fL and ferritin 6 ng/mL."
    same = "رجل عمره 68 عامًا لديه هيموغلوبين 8.6 غ/دل و MCV بقيمة 70 فل وفيريتين 6 نانوغرام/مل."
    assert corpus.adequacy([("a", pair_of(text, same))]) == ({}, 0)


def test_another_encoder_is_refused(monkeypatch):
    corpus.encoder.cache_clear()
    monkeypatch.setattr(corpus, "ENCODER_HASH", "0" * 64)
    with pytest.raises(InputError, match="other weights"):
        corpus.encoder()
    monkeypatch.undo()
    corpus.encoder.cache_clear()


def rows_of(count):
    for i in range(count):
        yield f"row:{i}", [f"Give {i} mg."], [f"يعطى {i if i % 7 else i + 1} ملغ."], ("question",)


def test_a_stream_gives_the_same_flags_in_order_on_one_and_on_two_processes():
    count = 2 * checks.CHUNK_ROWS + 10
    one, two = (list(checks.check_rows(rows_of(count), ARABIC, processes)) for processes in (1, 2))
    assert one == two and [row_id for row_id, _ in two] == [f"row:{i}" for i in range(count)]
    assert sum(bool(found) for _, found in one) == len(range(0, count, 7))


# Languages


def test_an_unknown_language_names_the_known_ones():
    with pytest.raises(InputError, match="no language 'xx': there are ar, en, fa"):
        load_language("xx")


def test_every_pattern_of_every_language_compiles_and_is_on_one_line():
    """Folded YAML blocks put spaces into patterns that span lines: "تنفي" was then no denial."""
    for code in language_codes():
        language = load_language(code)
        assert language.name and all(
            "\n" not in p.pattern and "  " not in p.pattern
            for p in map(language.pattern, language._texts)
        ), code


def test_folding_makes_writers_spellings_one():
    assert normalise_letters("أَدوِيَةٌ إلى ۵٫۵") == "ادويه الي 5.5"


def test_persian_is_checked_with_its_own_data():
    persian = load_language("fa")
    text = "Give 50 mg twice a day in the left arm. She has no fever."
    right = "۵۰ میلی‌گرم دو بار در روز در بازوی چپ بدهید. او تب ندارد."
    assert [f for f in checks.run_checks([text], [right], persian) if f.stops] == []
    wrong = "۵۰ گرم سه بار در روز در بازوی راست بدهید. او تب دارد."
    assert {f.check for f in checks.run_checks([text], [wrong], persian) if f.stops} == {
        "units",
        "frequency",
        "negation",
        "side",
    }


# All together


def test_all_checks_run_in_a_fixed_order():
    source = [
        "Do not give 50 mg of warfarin to a patient with a bleeding ulcer of the stomach."
    ] * 2
    found = checks.run_checks(
        source,
        ["Sure! give some drug to a patient with a bleeding ulcer"],
        ARABIC,
        ("question", "answer"),
    )
    names = [flag.check for flag in found if flag.stops]
    assert names == [
        "part_count",
        "numbers",
        "negation",
        "drug",
        "untranslated",
        "preamble",
        "length",
        "truncation",
    ]
    assert [flag.check for flag in found if not flag.stops] == ["abbreviation"]
    assert all(isinstance(flag, Flag) and flag.reason for flag in found) and found[
        1
    ].reason.startswith("question: ")


def test_nothing_stops_a_gold_translation():
    """The sample's Arabic was written by hand: whatever a rule says against it is a fault of the
    rule.
    """
    records = [
        r for path in sources.find_files(DATA / "sample") for r in sources.read_file(path, kit=True)
    ]
    gold = {record.parent_id: record for record in records if record.lang == "ar"}
    english = [record for record in records if record.lang == "en"]
    assert len(english) == len(gold) >= 242
    found = {}
    for record in english:
        texts = (
            translation.flat_texts(translation.text_fields(r)) for r in (record, gold[record.id])
        )
        found[record.id] = [
            (flag.check, flag.reason) for flag in checks.run_checks(*texts, ARABIC) if flag.stops
        ]
    assert {row_id: names for row_id, names in found.items() if names} == {}


# Odd input

BOMBS = {
    "digits": "1" * 20_000,
    "commas": "1," * 10_000,
    "letters": "ب" * 20_000,
    "latin": "a" * 20_000,
    "newlines": "\n" * 20_000,
    "spaces": " " * 20_000,
    "words": "لا " * 7_000,
    "brackets": "(" * 20_000,
    "points": "." * 20_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("code", ["ar", "fa"])
def test_no_check_is_slow_on_odd_text(code, bomb):
    """A pattern tried from each comma or letter took minutes for a model's answer that repeats one
    sign.
    """
    begin = time.perf_counter()
    checks.run_checks(
        ["Give 50 mg twice daily, every 8 hours."], [f"يعطى {bomb} مرات يوميا"], load_language(code)
    )
    assert time.perf_counter() - begin < 5


def test_a_check_that_fails_is_a_finding_and_stops_no_run(monkeypatch):
    def broken(pair):
        raise RuntimeError("odd")
        yield

    monkeypatch.setattr(
        checks.registry, "CHECKS", {"broken": broken, "numbers": quantities.numbers}
    )
    found = checks.run_checks(["5 mg"], ["6 ملغ"], ARABIC)
    assert [(flag.check, flag.severity) for flag in found] == [
        ("broken", "human"),
        ("numbers", "reject"),
    ] and "RuntimeError" in found[0].reason


@pytest.mark.parametrize("candidate", ["يتناول \u202e51 ملغ\u202c منه", "أولا\u2028ثانيا"])
def test_marks_that_change_what_a_reader_sees_are_rejected(candidate):
    assert [severity for severity, _ in flags(surface.characters, "text", candidate)] == ["reject"]
    assert [severity for severity, _ in flags(surface.characters, "text", "حم\u200bى")] == ["human"]


def test_options_that_changed_places_are_seen_by_the_encoder():
    source = ["Which sign is typical?", "Fever", "Cough", "Rash", "Chest pain"]
    right = ["ما العلامة؟", "حمى", "سعال", "طفح جلدي", "ألم في الصدر"]
    swapped = [right[0], right[2], right[1], *right[3:]]
    names = ("question", *(f"option {i}" for i in range(1, 5)))
    found = corpus.option_order(
        (row_id, TextPair(source, texts, ARABIC, names))
        for row_id, texts in (("right", right), ("swapped", swapped))
    )
    assert (
        set(found) == {"swapped"}
        and found["swapped"][0].reason == "option 1 and option 2 seem to have changed places"
    )
