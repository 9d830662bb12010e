"""UCF101: 101 human actions in 13,320 clips, three official splits (Soomro, Zamir, Shah 2012).

Looked for below the root, in the spellings people have (see `_official_splits` for the rest):

- ``UCF-101/<Class>/v_<Class>_gXX_cYY.avi``, or all clips flat in one folder;
- ``ucfTrainTestlist/{classInd,trainlist0N,testlist0N}.txt``, or the same in ``annotations/`` or at
  the root; else mmaction2's ``ucf101_{train,val}_split_N_{videos,rawframes}.txt``.

The clips ``gXX`` of a class were cut from one video. Each official split keeps these groups whole,
and so does what is held out for selection: a clip's neighbours tell its class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList, read_text
from rsbench.errors import DataError

from ._official_lists import (
    ListedClip,
    ListedFile,
    Listing,
    Role,
    find_list,
    hold_to_index,
    no_list,
    read_listed_videos,
    read_mmaction2,
)
from ._official_splits import SplitSet, official_task

LIST_FOLDERS = ("ucfTrainTestlist", "annotations", "splits")

_NAMES = (
    "ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch "
    "Basketball BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles "
    "BodyWeightSquats Bowling BoxingPunchingBag BoxingSpeedBag BreastStroke BrushingTeeth "
    "CleanAndJerk CliffDiving CricketBowling CricketShot CuttingInKitchen Diving Drumming "
    "Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl GolfSwing Haircut "
    "Hammering HammerThrow HandstandPushups HandstandWalking HeadMassage HighJump HorseRace "
    "HorseRiding HulaHoop IceDancing JavelinThrow JugglingBalls JumpingJack JumpRope Kayaking "
    "Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks ParallelBars "
    "PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano "
    "PlayingSitar PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps "
    "Rafting RockClimbingIndoor RopeClimbing Rowing SalsaSpin ShavingBeard Shotput "
    "SkateBoarding Skiing Skijet SkyDiving SoccerJuggling SoccerPenalty StillRings "
    "SumoWrestling Surfing Swing TableTennisShot TaiChi TennisSwing ThrowDiscus "
    "TrampolineJumping Typing UnevenBars VolleyballSpiking WalkingWithDog WallPushups "
    "WritingOnBoard YoYo"
)
CLASSES = tuple(_NAMES.split())
"""In the order of the official classInd.txt, which counts from 1."""

NUM_OFFICIAL = {
    **{"train1": 9537, "test1": 3783},
    **{"train2": 9586, "test2": 3734},
    **{"train3": 9624, "test3": 3696},
}
"""Lines of the official lists; each split deals out all 13,320 clips."""

_STEM = re.compile(r"v_(?P<class_name>.+)_g(?P<group>[0-9]+)_c(?P<clip>[0-9]+)", re.IGNORECASE)


def read_lists(guard: RootGuard, role: Role, number: int) -> Listing:
    """Read one side of an official split from whichever lists are there.

    Args:
        guard: Of the root.
        role: "train" or "test".
        number: Of the split, from 1 on.

    Raises:
        DataError: No list is there, or a line of it can't be understood or contradicts itself.
    """
    classes, by_index, notes = _classes(guard)
    first = 0
    official = find_list(guard, [f"{role}list0{number}.txt"], folders=LIST_FOLDERS)
    if official is not None:
        origin, lines, first = official.name, list(read_listed_videos(official)), 1
    else:
        found = read_mmaction2(guard, "ucf101", role, number)
        if found is None:
            raise no_list(
                "ucf101",
                guard.root,
                looked_for=f"ucfTrainTestlist/{role}list0{number}.txt and mmaction2's "
                f"ucf101_{'val' if role == 'test' else role}_split_{number}_videos.txt",
            )
        origin, lines = found
    return Listing(
        clips=tuple(_clips(lines, classes, by_index, first=first)),
        classes=classes,
        are_canonical=classes.names == CLASSES,
        origin=origin,
        notes=notes,
    )


def _clips(
    lines: Iterable[ListedFile], classes: ClassList, by_index: ClassList, *, first: int
) -> Iterable[ListedClip]:
    for line in lines:
        match = _STEM.fullmatch(line.stem)
        if match is None:
            raise DataError(
                f"{line.where}: a clip must be named v_<Class>_gXX_cYY, got {line.stem!r}; correct "
                "it or drop the line"
            )
        target = classes.index_of(match["class_name"], where=line.where)
        by_folder = classes.find(line.folder) if line.folder else target
        if by_folder not in (None, target):
            raise DataError(
                f"{line.where}: the clip {line.stem} lies in the folder {line.folder!r} of another "
                "class; mend the list"
            )
        hold_to_index(line, target, by_index, classes, first=first)
        # Lists differ in the case of HandstandPushups: an id is the same whichever is read.
        group = f"{classes.names[target]}_g{match['group']}"
        yield ListedClip(
            where=line.where,
            stem=line.stem,
            id=f"v_{group}_c{match['clip']}",
            target=target,
            group=group,
            num_frames=line.num_frames,
        )


def _classes(guard: RootGuard) -> tuple[ClassList, ClassList, tuple[str, ...]]:
    """Give the classes, what an index of a list means, and what is to be said of them."""
    canonical = ClassList(CLASSES, of="ucf101")
    path = find_list(guard, ["classInd.txt"], folders=LIST_FOLDERS)
    if path is None:
        return canonical, canonical, ()
    names: list[str] = []
    for line in filter(str.strip, read_text(path).splitlines()):
        index, _, name = line.strip().partition(" ")
        if index != str(len(names) + 1) or not name.strip():
            raise DataError(
                f"{path.name}: line {len(names) + 1} must be '{len(names) + 1} <Class>', got "
                f"{line[:60]!r}; get the official file"
            )
        names.append(name.strip())
    if not names:
        raise DataError(f"{path} must hold 'index class' lines, it is empty; get the official file")
    named = ClassList(names, of=path.name)
    if {canonical.find(name) for name in names} == set(range(len(canonical))):
        return canonical, named, ()
    note = f"classes are the {len(named)} of {path.name}, not those of ucf101"
    return named, named, (note,)


TASK = official_task(
    SplitSet(
        name="ucf101",
        read=read_lists,
        num_official=NUM_OFFICIAL,
        video_folders=("UCF-101", "UCF101", "ucf101", "videos"),
        fps=25.0,
        are_groups_apart=True,
    ),
    layouts=("ucf101", "ucf101 flat", "ucf101 mmaction2 videos", "ucf101 mmaction2 rawframes"),
    title="UCF101, human actions, mean of three splits",
    how_to_get=(
        "https://www.crcv.ucf.edu/data/UCF101.php has UCF101.rar and the splits for action "
        "recognition; looked for are UCF-101/<Class>/*.avi beside ucfTrainTestlist/."
    ),
    citation=(
        "Soomro, Zamir, Shah, UCF101: A Dataset of 101 Human Actions Classes From Videos in The "
        "Wild, 2012, https://arxiv.org/abs/1212.0402"
    ),
)
