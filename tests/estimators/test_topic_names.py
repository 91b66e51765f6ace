"""Names of topics say two things, and no punctuation."""

from __future__ import annotations

from causal_lm_opt.estimators._named_ratios import _two_apart, topic_names
from causal_lm_opt.estimators.text_pipelines import tfidf_features


def test_the_two_terms_of_a_name_share_no_word() -> None:
    assert _two_apart([["thank", "you"], ["thank"], ["we"]]) == ["thank you", "we"]
    assert _two_apart([["thank", "you"], ["thank"]]) == ["thank you"]
    assert _two_apart([]) == ["no words"]


def test_names_hold_words_alone() -> None:
    texts = ["Thank you. We care, thank you.", "It costs a lot.", "Ask again, it costs.", "We ask."]
    names = topic_names(tfidf_features(n_components=3).fit(texts))
    for name in names:
        terms = name.partition("(")[2].rstrip(")").split(", ")
        assert all(word.isalnum() for term in terms for word in term.split())
        assert len({word for term in terms for word in term.split()}) == sum(
            len(term.split()) for term in terms
        )


def test_texts_without_words_have_topics_with_a_name() -> None:
    names = topic_names(tfidf_features(n_components=2).fit(["! ?", "? .", ". . !", "! ! ?"]))
    assert all(name.endswith(" (no words)") for name in names)
