"""Random scenes of all splits."""

from hypothesis import strategies as st

from cutline.demo.drawing import Scene
from cutline.demo.scenes import Kind, Split, make_scenes

SPLITS: tuple[Split, ...] = ("train", "heldout", "unseen_combination")

any_scene = st.builds(
    lambda seed, split: make_scenes(1, seed, split)[0],
    st.integers(0, 2**31),
    st.sampled_from(SPLITS),
)


def get_kinds(scene: Scene) -> frozenset[Kind]:
    return frozenset((item.color, item.shape) for item in scene.objects)
