"""The rules that read a translation before any score is believed: each with a text it flags and texts it leaves alone."""

import csv
from pathlib import Path

import pytest

from bimedix_utils import checks, sources, translation
from bimedix_utils.checks import Flag
from bimedix_utils.knowledge import COLUMNS

pytestmark = pytest.mark.unit
DATA = Path(__file__).resolve().parents[1] / "data"


def flags(check, source, candidate):
    """(severity, reason) of what one check finds in one pair of texts, or in two lists of texts."""
    pair = [[text] if isinstance(text, str) else text for text in (source, candidate)]
    return [(flag.severity, flag.reason) for flag in check(*pair)]


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
    assert flags(checks.same_numbers, source, candidate) == []


@pytest.mark.parametrize(
    "source, candidate, reason",
    [
        ("Give 50 mg.", "يعطى 500 ملغ.", "part 1: lost 50, new 500"),
        ("Give 50 mg.", "يعطى القليل.", "part 1: lost 50, new -"),
        ("Give a little.", "يعطى 50 ملغ.", "part 1: lost -, new 50"),
        ("3 mg for 3 days", "3 ملغ لعدة أيام", "part 1: lost 3, new -"),
        ("0.5 mg", "5 ملغ", "part 1: lost 0.5, new 5"),
        (["Rest.", "120/80"], ["استرح.", "130/80"], "part 2: lost 120, new 130"),
    ],
)
def test_changed_numbers_are_rejected(source, candidate, reason):
    assert flags(checks.same_numbers, source, candidate) == [("reject", reason)]


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
    assert flags(checks.negation_kept, source, candidate) == []


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
    assert flags(checks.negation_kept, source, candidate) == [("human", f"part 1: {word} has no counterpart")]


@pytest.mark.parametrize(
    "source, candidate",
    [("He has pain and no fever.", "لديه ألم وحمى."), ("Which drug is NOT given for severe pain?", "أي دواء يعطى عند حدوث ألم شديد؟")],
)
def test_pain_is_no_negation(source, candidate):
    assert len(flags(checks.negation_kept, source, candidate)) == 1


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("Which drug is NOT a beta blocker?", "ما الدواء الذي ينتمي إلى حاصرات بيتا؟"),
        ("What is the most likely diagnosis in this man without fever?", "ما التشخيص الأرجح لدى هذا الرجل المصاب بالحمى؟"),
    ],
)
def test_what_is_no_negation(source, candidate):
    """Most Arabic question stems begin with «ما»: the very stems whose NOT and EXCEPT must survive."""
    assert len(flags(checks.negation_kept, source, candidate)) == 1


def test_negation_with_a_curly_apostrophe():
    assert len(flags(checks.negation_kept, "I don’t smoke.", "أنا أدخن.")) == 1


# Translated, clean, complete


@pytest.mark.parametrize(
    "source, candidate",
    [
        ("The femoral nerve supplies the quadriceps.", "يغذي العصب الفخذي العضلة رباعية الرؤوس."),
        ("DNA", "DNA"),
        ("CFTR", "CFTR"),
        ("Escherichia coli lives in the healthy gut.", "تعيش جرثومة Escherichia coli في أمعاء الإنسان السليم."),
        ("120/80", "120/80"),
        ("TSH, CA-125 and PSA were ordered today.", "طلبت اليوم فحوص TSH و CA-125 و PSA."),
    ],
)
def test_translated_text_passes(source, candidate):
    assert flags(checks.translated, source, candidate) == []


def test_english_left_is_rejected():
    text = "The femoral nerve supplies the quadriceps muscle."
    assert flags(checks.translated, text, text) == [("reject", "part 1: English left: femoral nerve supplies the quadriceps")]
    half = "العصب الفخذي the femoral nerve supplies the quadriceps في الفخذ من الأمام والخلف والجانب وما حولها"
    assert [severity for severity, _ in flags(checks.translated, text, half)] == ["reject"]
    other = "Der Oberschenkelnerv versorgt ihn."
    assert flags(checks.translated, text, other) == [("reject", f"part 1: English left: {other[:40]}")]


def test_each_untranslated_part_is_named():
    text = "Drink plenty of water and rest well."
    found = flags(checks.translated, [text, "Rest.", text], [text, "استرح.", text])
    assert [reason[:6] for _, reason in found] == ["part 1", "part 3"]


@pytest.mark.parametrize(
    "candidate, check",
    [
        ("إليك الترجمة: ضغط الدم", "preamble"),
        ("Sure! ضغط الدم", "preamble"),
        ("Here is the translation: ضغط الدم", "preamble"),
        ("بصفتي نموذجًا لغويًا لا أستطيع", "preamble"),
        ("I'm sorry, ضغط الدم", "preamble"),
        ("ضغط \ufffd الدم", "characters"),
        ("\ufefb يوجد", "characters"),
        ("ﷲ أعلم", "characters"),
    ],
)
def test_unclean_text_is_rejected(candidate, check):
    (flag,) = checks.clean(["source"], ["نص", candidate])
    assert (flag.check, flag.severity) == (check, "reject") and flag.reason.startswith("part 2: ")


@pytest.mark.parametrize("candidate", ["ضغط الدم مرتفع جدًا؛ راجع الطبيب.", "ما قيمة pH؟ «7.4»", "β و µ و °م", ""])
def test_clean_text_passes(candidate):
    assert list(checks.clean(["source"], [candidate])) == []


def test_number_of_parts():
    assert flags(checks.same_count, ["a", "b"], ["أ", "ب"]) == []
    assert flags(checks.same_count, ["a", "b"], ["أ"]) == [("reject", "2 parts in the source, 1 in the translation")]
    assert flags(checks.same_count, ["a"], ["أ", "ب"]) == [("reject", "1 parts in the source, 2 in the translation")]
    assert flags(checks.same_count, ["a", "b"], ["أ", " "]) == [("reject", "part 2 is empty")]


@pytest.mark.parametrize("times, found", [(0.44, 1), (0.46, 0), (1.0, 0), (1.89, 0), (1.91, 1)])
def test_length(times, found):
    assert len(flags(checks.plausible_length, "x" * 1000, "ن" * int(1000 * times))) == found


def test_length_of_short_texts_says_nothing():
    assert flags(checks.plausible_length, "x" * 79, "ن") == []
    assert flags(checks.plausible_length, ["x" * 40, "x" * 40], ["ن", "ن"]) == [("human", "0.03 times the letters of the source")]


# Drugs


@pytest.fixture
def drugs(tmp_path):
    """A check that knows propranolol (two spellings), atenolol, warfarin and naloxone."""
    facts = {
        "drug_class": [("propranolol", "beta blocker", "بروبرانولول", "حاصرات بيتا"),
                       ("atenolol", "beta blocker", "أتينولول", "حاصرات بيتا")],
        "drug_use": [("propranolol", "tremor", "بروبرانولول", "الرعاش"), ("Propranolol", "x", "بروبرانولُول المديد", "س"),
                     ("warfarin", "thrombosis", "وارفارين", "الخثار"), ("ferrous sulfate", "anemia", "كبريتات الحديدوز", "فقر الدم")],
        "poison_antidote": [("morphine", "naloxone", "المورفين", "نالوكسون"), ("insulin", "glucose", "الإنسولين", "الغلوكوز")],
    }  # fmt: skip
    for name, rows in facts.items():
        with open(tmp_path / f"{name}.csv", "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([COLUMNS, *((s_en, o_en, s_ar, o_ar, "", "") for s_en, o_en, s_ar, o_ar in rows)])
    return checks.drugs_kept(tmp_path)


def test_drug_names_leave_out_phrases_and_laboratory_values(tmp_path, drugs):
    names = checks.drug_names(tmp_path)
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
        ("human", "part 1: atenolol is in the translation and not in the source"),
        ("human", "part 1: propranolol was not found in the translation"),
    ]
    assert flags(drugs, ["Rest.", "Give warfarin."], ["استرح.", "يعطى دواء."]) == [
        ("human", "part 2: warfarin was not found in the translation")
    ]
    assert flags(drugs, "Give a drug.", "يعطى وارفارين.") == [("human", "part 1: warfarin is in the translation and not in the source")]


def test_swapped_drugs_of_two_parts_are_both_found(drugs):
    assert len(flags(drugs, ["warfarin", "atenolol"], ["أتينولول", "وارفارين"])) == 4


@pytest.mark.parametrize("source, candidate", [("rest and with warfarin", "الراحة وبالوارفارين"), ("and for warfarin", "وللوارفارين")])
def test_two_particles_in_front_of_a_drug(source, candidate, drugs):
    assert flags(drugs, source, candidate) == []


# All together


def test_all_checks_run_in_a_fixed_order():
    source = ["Do not give 50 mg of warfarin to a patient with a bleeding ulcer of the stomach."] * 2
    found = checks.run_all(source, ["Sure! give some drug to a patient with a bleeding ulcer"], DATA / "knowledge")
    assert [flag.check for flag in found] == ["part_count", "numbers", "negation", "untranslated", "preamble", "length", "drug"]
    assert all(isinstance(flag, Flag) and flag.severity in ("reject", "human") and flag.reason for flag in found)


def test_no_flag_on_any_gold_translation():
    """The sample's Arabic was written by hand: whatever a rule says against it is a fault of the rule."""
    records = [r for path in sources.find_files(DATA / "sample") for r in sources.read_file(path, kit=True)]
    gold = {record.parent_id: record for record in records if record.lang == "ar"}
    english = [record for record in records if record.lang == "en"]
    assert len(english) == len(gold) >= 242
    found = {}
    for record in english:
        pair = (translation.parts(translation.fields(r)) for r in (record, gold[record.id]))
        found[record.id] = [(flag.check, flag.reason) for flag in checks.run_all(*pair, DATA / "knowledge")]
    assert {row_id: names for row_id, names in found.items() if names} == {}
