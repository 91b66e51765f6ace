"""What the reports of preference studies say in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["WORDS", "Words"]


@dataclass(frozen=True)
class Words:
    """Title, lead, questions, captions and explanations of a report, or of a plot."""

    title: str
    lead: str
    asked: tuple[str, ...] = ()
    table: str = ""
    gaps: str = ""
    differ: tuple[str, ...] = ()


WORDS: Mapping[str, Words] = {
    "latent-positivity": Words(
        title="Rewards learnt where two qualities move together",
        lead="A reward is learnt from pairs of responses in which truthfulness and instruction "
        "following differ in the same direction more or less often. How well does it judge pairs "
        "in which they differ in opposite directions?",
        asked=(
            "The true reward is .25 times the first rating plus .75 times the second, without "
            "noise; ties fall by a coin in training and count half in tests.",
            "rho is the correlation of the two ratings' differences within training pairs. The "
            "law mixes independent with equal differences, so that each rating's own law is the "
            "same at every rho.",
            "Test id: pairs at the training's rho. Test ood: pairs whose ratings differ in "
            "opposite directions; their correlation is -.8. The ood pairs are the same for every "
            "rho and model.",
            "Stratum weights lead each cell of differences to the share it has at rho 0. They use "
            "the ratings, which a user of real data needs to have.",
            "Large-sample linear: what least squares on the noisy ratings finds in an endless "
            "sample at that rho, by enumeration; no network, no embedding.",
            "World and training settings were written down before the first result and not "
            "changed after it. The correlation .999 was added once the others had run, to see "
            "where weights fail.",
        ),
        table="Accuracy in per cent, mean over seeds (95% t-interval over seeds), beside Table 1 "
        "of Kobalczyk and van der Schaar (2025)",
        gaps="id less ood accuracy, and how much lower ood accuracy is than the unweighted "
        "model's at the first rho; paired by seed, 95% t-intervals",
        differ=(
            "The paper's ratings are a language model's of UltraFeedback responses, its "
            "embeddings 4,096 numbers of a frozen language model. Ours are simulated: the "
            "embedding shows each rating with a stated reliability, through a random nonlinear "
            "map among nuisance. Agreement in level at rho 0 is by choice of that reliability; "
            "how accuracy moves with rho is not.",
            "Ratings that can only be read with noise make a learner borrow from what moves along "
            "with them: at rho .9 the best reading of the second rating uses the first almost as "
            "much. That is the line of the large-sample linear learner; no amount of such data "
            "mends it. How steep it is depends on how well each rating can be read, which nobody "
            "knows for the paper's embeddings: one that shows the second rating better than the "
            "first loses less.",
            "Our id accuracy rises with the correlation where the paper's falls a little: two "
            "noisy ratings that agree are easier to tell than two that do not. Equal differences "
            "also tie more often, which pulls the other way.",
            "The paper reaches its correlations by sampling real pairs, so that other features of "
            "the pairs may shift too; here nothing else does.",
            "Stratum weights are exact here, but at rho .9 most of the weight is on a tenth of "
            "the pairs, and at .99 on a hundredth: what they can restore is bounded by the "
            "effective number of pairs (weights_ess in results.csv).",
        ),
    ),
    "user-objectives": Words(
        title="Rewards of users whose prompts fit their objectives",
        lead="Users judge responses by an objective and mostly write prompts of its type. How "
        "well does a learnt reward judge by an objective on prompts of the other type?",
        asked=(
            "rho is the share of training pairs whose objective is the prompt's type. The "
            "objective is told to the models; the type only shows in the embeddings.",
            "Preferences go by the objective's own rating (.9) and the other (.1), without noise, "
            "whatever the type. Ties fall by a coin in training and count half in tests.",
            "Test consistent: objective and type agree; inconsistent: they never do. The same "
            "test pairs for every rho and model.",
            "Base: one network of embedding and objective. Multihead: a shared latent, a head per "
            "objective. Adversarial: also a discriminator of the objective, worked against by "
            "gradient reversal of strength lambda.",
            "World and training settings were written down before the first result and not "
            "changed after it. Entanglement (0 unless given), the number of nuisance latents (8) "
            "and the discriminator's learning rate (the network's) became options after the "
            "results at those values, to see when models collapse and when an adversary helps; "
            "what is run at others is exploration.",
        ),
        table="Accuracy in per cent, mean over seeds (95% t-interval over seeds), beside Table 2 "
        "of Kobalczyk and van der Schaar (2025)",
        gaps="consistent less inconsistent accuracy, and how much lower inconsistent accuracy is "
        "than the same model's at the first rho; paired by seed, 95% t-intervals",
        differ=(
            "The paper's prompts are of HH-RLHF, whose two types differ in far more than a "
            "signal: topics, wording, and what makes a response good. In our world ratings are "
            "independent of the type, which only shows in the embedding and bends how ratings "
            "show there.",
            "So at rho .5 both tests are equally hard here, while in the paper the consistent one "
            "is easier.",
            "Without entanglement ratings show much alike on prompts of both types. What a latent "
            "learns on one type's prompts then carries over to the other's, whatever rho: heads "
            "of their own need no pairs of the other type, and there is little for an adversary "
            "to mend. The paper's collapse at rho 1 needs that it does not carry over; with "
            "--entanglement 1 it cannot. In between, with so many nuisance latents that the few "
            "mismatched pairs do not teach the heads, an adversary can help.",
            "Networks have one hidden layer of 512 and a latent of 512, and training ends early "
            "after three epochs without a better validation accuracy; the paper's embeddings have "
            "4,096 numbers, ours 256 unless --dimension says otherwise.",
        ),
    ),
    "ratings": Words(
        title="Rewards learnt from real ratings that move together",
        lead="A reward is learnt from pairs of texts to the same prompt, drawn so that two real "
        "ratings' differences have a set correlation. How well does it judge pairs in which they "
        "differ in opposite directions?",
        asked=(
            "The true reward is .25 times the first factor plus .75 times the second, each in "
            "standard deviations; ties fall by a coin in training and count half in tests.",
            "Pairs are drawn by strata of both differences, none twice, each factor's differences "
            "kept as they are; every correlation has as many pairs.",
            "Seeds split the prompts anew into training, validation and test. Splits of one table "
            "overlap, so that intervals over seeds tell how results vary with the split and are "
            "too narrow for other tables.",
            "Test id: pairs at the training's correlation; ood: all test pairs whose ratings "
            "differ in opposite directions.",
        ),
        table="Accuracy in per cent, mean over seeds (95% t-interval over seeds)",
        gaps="id less ood accuracy, and how much lower ood accuracy is than the unweighted "
        "model's at the first rho; paired by seed, 95% t-intervals",
        differ=(
            "Another data set, other raters, another encoder and far fewer pairs than the paper's "
            "15,000; the two are not comparable in level.",
        ),
    ),
    "id": Words("Pairs like those of training", "Test pairs at the training's own correlation."),
    "ood": Words(
        "Pairs whose ratings differ in opposite directions",
        "Test pairs in which one rating speaks for one response and the other for the other.",
    ),
    "consistent": Words(
        "Prompts of the objective's type", "Test pairs whose objective is the prompt's type."
    ),
    "inconsistent": Words(
        "Prompts of the other type", "Test pairs whose objective is not the prompt's type."
    ),
}
