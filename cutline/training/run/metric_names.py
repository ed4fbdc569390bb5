"""Names of what a run logs, as its report shows them."""

from cutline.metrics import METRIC_NAMES

TERM_NAMES = {
    "itc": "Image-text contrastive (ITC) loss",
    "itm": "Image-text matching (ITM) loss",
    "lm": "Language model (LM) loss",
    "bag_of_words": "Bag-of-words loss",
}
"""terms of the training loss"""
REWARD_NAMES = {"reward": "reward of samples", "baseline": "reward of greedy search"}
"""what self-critical sequence training raises, and the baseline that has a line of its own"""
SAMPLE_NAMES = {
    "kl": "KL divergence from the initial model",
    "caption_length": "Words per sample",
    "unfinished": "Samples without an end token",
    "distinct1": "Distinct-1 of an image's samples",
    "distinct2": "Distinct-2 of an image's samples",
}
"""what self-critical sequence training logs of its samples"""
MAIN_METRICS = ("cider", "bleu4", "recall_mean")
"""metrics that choose the best checkpoint, and are shown first"""
CHART_METRICS = (*MAIN_METRICS, "image_to_text_r1", "text_to_image_r1", "itm_auroc")
"""metrics with a chart"""
_NAMES = METRIC_NAMES | {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "recall_mean": "mean recall",
    **{
        f"{key}_r{cutoff}": f"recall@{cutoff}, {name}"
        for key, name in (("image_to_text", "image to text"), ("text_to_image", "text to image"))
        for cutoff in (1, 5, 10)
    },
    "itm_auroc": "AUROC of matching",
    "itm_accuracy": "accuracy of matching",
    "recall_mean_by_index": "mean recall as BLIP counts it",
    "recall_mean_cosine": "mean recall without re-ranking",
}
EVALUATION_NAMES = {
    name: _NAMES[name] for name in ("train_loss", "val_loss", *MAIN_METRICS, *_NAMES)
}
"""all that an evaluation measures, in the order in which a table has it"""
