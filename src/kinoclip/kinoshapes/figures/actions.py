"""What people do: each action as key poses, with its names in English and Chinese, its props and its partner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from kinoclip.kinoshapes.figures.skeleton import Key

Group = Literal["motion", "reversed", "object", "two people", "limb", "speed", "count"]
Numbers = dict[str, float]


@dataclass(frozen=True)
class Prop:
    """A thing that an action uses, and where it is: at a hand, between both hands, at a foot, or on the floor."""

    kind: Literal["ball", "box", "cup", "spoon", "bowl", "rope", "chair", "barbell"]
    holder: Literal["right hand", "hands", "partner's hands", "right foot", "seat", "front"]
    taken: float = 0.0  # phase from which on it is held; before, it lies where the holder is then
    passed: float = 2.0  # phase at which it leaves the holder
    flight: tuple[float, float, float] | None = (
        None  # velocity after that, in meters per cycle; None: the partner has it
    )


@dataclass(frozen=True)
class Action:
    """One class of the benchmark; the keys are those of one cycle."""

    label: str
    synonyms: tuple[str, ...]
    chinese: str
    chinese_synonyms: tuple[str, ...]
    group: Group
    keys: tuple[tuple[Key, ...], ...]  # one of these is chosen
    description: str  # what a frame shows, in the words of captions
    cycles: tuple[float, float] | None = None  # least and most in two seconds; None: once
    views: tuple[float, float] = (0, 55)  # degrees between the line of sight and straight ahead
    props: tuple[Prop, ...] = ()
    partner: tuple[Key, ...] | None = None
    distance: float = 0.0  # of the partner, in meters
    away: bool = False  # the partner looks into the same direction
    travel: float = 0.0  # way forward in a cycle, in legs
    reverse: bool = False  # plays backward
    mirrored: bool | None = None  # None: at random


def _arms(e: float, a: float, r: float = 0.95) -> Numbers:
    return _left(e, a, r) | _right(e, a, r)


def _left(e: float, a: float, r: float = 0.95) -> Numbers:
    return {"left_e": e, "left_a": a, "left_r": r}


def _right(e: float, a: float, r: float = 0.95) -> Numbers:
    return {"right_e": e, "right_a": a, "right_r": r}


def _feet(x: float = 0.03, z: float = 0.0, y: float = 0.0) -> Numbers:
    """Both feet alike."""
    return {"left_x": x, "right_x": x, "left_z": z, "right_z": z, "left_y": y, "right_y": y}


def _step(left: tuple[float, float], right: tuple[float, float]) -> Numbers:
    """Height and way forward of each foot."""
    return {"left_y": left[0], "left_z": left[1], "right_y": right[0], "right_z": right[1]}


def _body(**numbers: float) -> Numbers:
    return numbers


def _cycle(*poses: Mapping[str, float]) -> tuple[Key, ...]:
    """Key poses at equal distances, ending with the first."""
    count = len(poses)
    return tuple((i / count, poses[i % count]) for i in range(count + 1))


def _once(*poses: Mapping[str, float]) -> tuple[Key, ...]:
    """Key poses at equal distances."""
    return tuple((i / (len(poses) - 1), pose) for i, pose in enumerate(poses))


def _swap(pose: Mapping[str, float]) -> Numbers:
    """Exchange left and right limbs."""
    names = {"left": "right", "right": "left"}
    return {"_".join((names.get(side, side), *rest)): value for (side, *rest), value in
            ((name.split("_"), value) for name, value in pose.items())}  # fmt: skip


_STAND: Numbers = {}
_SIT = _body(hip=0.56, hip_z=-0.5, lean=4) | _arms(42, 4, 0.86)
_CROUCH = _body(hip=0.5, hip_z=-0.22, lean=38)
_GRAB = _body(hip=0.62, hip_z=-0.3, lean=78, nod=-20) | _arms(72, -4, 0.93)
_HOLD = _arms(58, -6, 0.66)
_BACK = _body(tilt=-84, up=0.13, hip=0.97) | _arms(70, 80, 0.95) | _feet(0.14)
_STUMBLE = _body(tilt=-26, hip=0.8) | _arms(95, 45) | _step((0.12, 0.2), (0, -0.05))
_SIDE = _body(roll=84, up=0.11, hip=0.9, bend=-8) | _left(150, 70) | _right(60, 10, 0.8)
_LEAN = _body(roll=30, hip=0.82, bend=14) | _left(90, 70) | _right(100, 80)
_FRONT = _body(tilt=82, up=0.14, hip=0.97) | _arms(140, 35, 0.85)
_TRIP = _body(tilt=32, hip=0.82, lean=15) | _arms(95, 10) | _step((0, 0.25), (0.2, -0.3))
_FALL = tuple(
    _once(_STAND, part, lying, lying) for part, lying in ((_STUMBLE, _BACK), (_LEAN, _SIDE), (_TRIP, _FRONT))
)

_CONTACT = _body(hip=0.94) | _step((0, 0.36), (0, -0.36)) | _left(-32, 0) | _right(32, 0, 0.9)
_PASSING = _body(hip=0.985) | _step((0, 0.0), (0.2, -0.05)) | _left(2, 0) | _right(2, 0)
_WALK = _cycle(_CONTACT, _PASSING, _swap(_CONTACT), _swap(_PASSING))
_STRIDE = (
    _body(hip=0.93, lean=16, up=0.06)
    | _step((0.12, 0.62), (0.42, -0.55))
    | _left(-68, 0, 0.72)
    | _right(78, -12, 0.62)
)
_LAND = _body(hip=0.84, lean=18) | _step((0, 0.05), (0.5, -0.2)) | _left(-10, 0, 0.6) | _right(30, 0, 0.6)
_RUN = _cycle(_STRIDE, _LAND, _swap(_STRIDE), _swap(_LAND))

_GUARD = _arms(112, -14, 0.42) | _step((0, 0.16), (0, -0.16)) | _body(hip=0.93)
_JAB = _right(92, -12, 1) | _body(twist=28, lean=8)
_WIND = _body(hip=0.95, lean=-6) | _step((0, 0.12), (0.22, -0.5)) | _left(60, 40) | _right(35, 60)
_KICK = _body(hip=0.97, lean=-16) | _step((0, 0.0), (0.78, 0.85)) | _left(30, 80) | _right(75, 70)
_DOWN = _body(hip=0.74, lean=28) | _arms(-42, 0)
_AIR = _body(up=0.36, hip=0.98) | _arms(160, 15) | _feet(0.05, -0.06, 0.04)
_JUMP = _cycle(_body(hip=0.95), _DOWN, _AIR, _body(hip=0.8, lean=18) | _arms(40, 20))
_OPEN, _CLOSED = _arms(168, 88, 0.97) | _feet(0.36) | _body(hip=0.96, up=0.05), _arms(10, 85)
_SERVE = (
    _body(twist=-38, lean=-14, hip=0.95) | _right(150, 150, 0.72) | _left(80, 20) | _step((0.08, 0.12), (0, -0.22))
)
_THROWN = _body(twist=30, lean=30, hip=0.92) | _right(62, -10, 1) | _left(-30, 30) | _step((0, 0.36), (0.12, -0.3))
_PLANK = _body(tilt=70, up=0.02, nod=-25) | _arms(70, 12, 0.92)
_LOW = _body(tilt=82, up=0.02, nod=-25) | _arms(80, 24, 0.34)
_SKIP = _arms(34, 72, 0.66)
_BOWL = _left(56, 2, 0.8) | _body(lean=10, nod=18)
_SIP = _right(126, -52, 0.5) | _body(nod=-20, lean=-6)
_SHAKE = _body(lean=8) | _left(6, 80)
_CHEER = (
    _body(bend=20, hip_x=-0.12, yaw=18, hip=0.9)
    | _left(165, 70, 0.9)
    | _right(70, 95, 0.55)
    | _step((0, 0), (0.14, 0.1))
)
_SWAY = _body(hip=0.97, yaw=0) | _arms(105, 85, 0.6)
_LUNGE = _body(hip=0.62) | _step((0, 0.62), (0.02, -0.62)) | _arms(30, 100, 0.55)
_CRAWL = _body(hip=0.42, lean=84, nod=-30) | _step((0.02, -0.5), (0.02, -0.62)) | _left(72, 5) | _right(104, 5, 0.98)
_LIE = _body(hip=0.1, lean=-84, hip_z=-0.1) | _step((0, 0.62), (0, 0.62)) | _arms(150, 120, 0.4)
_CURL = _body(hip=0.1, lean=12, hip_z=-0.1, nod=12) | _step((0, 0.62), (0, 0.62)) | _arms(140, 110, 0.4)
_PRESS, _RACK = _arms(172, 70, 0.97) | _feet(0.14), _arms(128, 30, 0.36) | _feet(0.14) | _body(hip=0.94)
_HOP = _step((0, 0), (0.42, -0.34)) | _arms(50, 85, 0.8)
_BALANCE = _body(hip=0.86)
_TRAY = Prop("box", "hands", taken=0.5)
_BALL = Prop("ball", "right hand", passed=0.62, flight=(0.0, 1.2, 7.0))


def _action(label: str, synonyms: str, chinese: str, chinese_synonyms: str, group: Group, keys: tuple[Key, ...], description: str,
            **options: object) -> Action:  # fmt: skip
    names, foreign = tuple(synonyms.split(", ")), tuple(chinese_synonyms.split("、"))
    return Action(label, names, chinese, foreign, group, (keys,), description, **options)  # type: ignore[arg-type]


def _reversed(action: Action, label: str, synonyms: str, chinese: str, chinese_synonyms: str) -> Action:
    names, foreign = tuple(synonyms.split(", ")), tuple(chinese_synonyms.split("、"))
    return replace(
        action, label=label, synonyms=names, chinese=chinese, chinese_synonyms=foreign, reverse=not action.reverse
    )


_WAVE = _cycle(_right(166, 40, 0.92), _right(122, 108, 0.9))
_SQUAT = _cycle(_STAND, _CROUCH | _arms(88, 0))
_BOW = _once(_STAND, _body(lean=72, nod=18, hip_z=-0.14), _body(lean=72, nod=18, hip_z=-0.14), _STAND)
_ONE_KICK = _cycle(_STAND, _WIND, _KICK, _body(hip=0.96) | _step((0, 0), (0.2, 0.2)))
_SITTING = replace(
    _action("sitting down", "taking a seat, sitting down on a chair", "坐下", "坐到椅子上、入座", "reversed",
            _once(_STAND, _body(hip=0.82, hip_z=-0.32, lean=34) | _arms(30, 20), _SIT, _SIT),
            "a person with bent knees on a chair", views=(20, 70), props=(Prop("chair", "seat"),)),
)  # fmt: skip
_PICKING = _action(
    *(
        "picking up a box",
        "lifting a box from the floor, picking something up",
        "捡起箱子",
        "拿起箱子、从地上搬起箱子",
        "reversed",
    ),
    _once(_STAND, _body(hip=0.82, hip_z=-0.2, lean=45) | _arms(45, 0), _GRAB, _body(lean=30, hip=0.85) | _HOLD, _HOLD),
    "a person who leans forward with both hands on a box",
    views=(15, 70),
    props=(_TRAY,),
)
_FALLING = replace(
    _action("falling down", "falling over, falling to the floor", "摔倒", "跌倒、倒地", "reversed", _FALL[0],
            "a person who lies on the floor", views=(10, 80)),
    keys=_FALL,
)  # fmt: skip
_RAISING = replace(
    _action("raising the arms", "lifting both arms, putting the arms up", "举起双臂", "抬起双臂、举起双手", "reversed", (),
            "a person with both arms raised"),
    keys=(_once(_arms(6, 85), _arms(88, 85), _arms(170, 80)), _once(_arms(6, 10), _arms(88, 10), _arms(172, 12))),
)  # fmt: skip

ACTIONS: tuple[Action, ...] = (
    _action("waving", "waving a hand, greeting by waving", "挥手", "招手、摆手", "motion", _WAVE,
            "a person with one arm raised and the other down", cycles=(1.6, 2.6)),
    _action("clapping", "clapping the hands, applauding", "鼓掌", "拍手、拍掌", "motion",
            _cycle(_arms(84, 46, 0.72), _arms(84, -22, 0.66)), "a person with both hands together before the chest",
            cycles=(1.8, 3.0)),
    _action("jumping", "jumping up and down, leaping up", "跳跃", "跳起来、向上跳", "motion", _JUMP,
            "a person with both feet off the floor and both arms raised", cycles=(1.0, 2.0)),
    _action("jumping jacks", "doing jumping jacks, star jumps", "开合跳", "做开合跳、分腿跳", "motion",
            _cycle(_CLOSED, _OPEN), "a person with both arms raised and the legs apart", cycles=(1.5, 2.6)),
    _action("squatting", "doing squats, bending the knees", "深蹲", "下蹲、做深蹲", "motion", _SQUAT,
            "a person with bent knees and both arms forward", cycles=(1.0, 1.8), views=(15, 70)),
    _SITTING,
    _reversed(_SITTING, "standing up", "getting up from a chair, rising from a chair", "站起来", "起身、从椅子上站起来"),
    _PICKING,
    _reversed(_PICKING, "putting down a box", "setting a box on the floor, putting something down", "放下箱子",
              "把箱子放到地上、搁下箱子"),
    _FALLING,
    _reversed(_FALLING, "getting up from the floor", "getting up, rising from the floor", "从地上爬起来", "爬起来、从地上起来"),
    _RAISING,
    _reversed(_RAISING, "lowering the arms", "putting the arms down, dropping both arms", "放下双臂", "垂下双臂、放下双手"),
    _action("walking", "strolling, going for a walk", "走路", "步行、散步", "motion", _WALK,
            "a person with the legs apart, one foot forward and one back", cycles=(1.0, 1.7), views=(35, 85), travel=0.75),
    _action("running", "jogging, sprinting", "跑步", "奔跑、慢跑", "motion", _RUN,
            "a person who leans forward with bent elbows and one foot lifted behind", cycles=(1.6, 2.5), views=(35, 85),
            travel=1.5),
    _action("kicking a ball", "kicking, shooting a ball", "踢球", "踢、踢足球", "object", _ONE_KICK,
            "a person with one foot lifted forward and a ball", cycles=(1.0, 1.0), views=(35, 85),
            props=(Prop("ball", "right foot", taken=0.42, passed=0.5, flight=(0.0, 1.2, 6.0)),)),
    _action("punching", "boxing, throwing punches", "出拳", "打拳、拳击", "motion",
            _cycle(_GUARD, _GUARD | _JAB, _GUARD, _GUARD | _swap(_JAB) | _body(twist=-28)),
            "a person with one arm stretched forward and the other hand at the chin", cycles=(1.0, 1.7), views=(20, 75)),
    _action("bowing", "taking a bow, bending forward", "鞠躬", "弯腰行礼、行鞠躬礼", "motion", _BOW,
            "a person who leans forward with both arms down", cycles=(1.0, 1.0), views=(25, 80)),
    _action("turning around", "spinning around, turning in a circle", "转身", "转圈、原地转身", "motion",
            _once(_body(yaw=0), _body(yaw=120) | _step((0.08, 0), (0, 0)) | _arms(28, 80),
                  _body(yaw=240) | _step((0, 0), (0.08, 0)) | _arms(28, 80), _body(yaw=360)),
            "a person with both arms down, seen from behind", views=(0, 40)),
    _action("throwing a ball", "throwing, pitching a ball", "扔球", "投球、抛球", "object",
            _once(_step((0, 0.0), (0, 0)) | _right(60, 0, 0.6), _SERVE, _SERVE, _THROWN, _THROWN),
            "a person with a ball in one hand behind the head", views=(30, 80), props=(_BALL,)),
    _action("dancing", "dancing to music, doing a dance", "跳舞", "舞蹈、起舞", "motion",
            _cycle(_CHEER, _SWAY, _swap(_CHEER) | _body(bend=-20, hip_x=0.12, yaw=-18), _SWAY),
            "a person with one arm raised and a bent torso", cycles=(0.9, 1.5)),
    _action("push-ups", "doing push-ups, press-ups", "俯卧撑", "做俯卧撑、掌上压", "motion", _cycle(_PLANK, _LOW),
            "a person who lies face down with both hands on the floor", cycles=(1.0, 2.0), views=(45, 90)),
    _action("skipping rope", "jumping rope, rope skipping", "跳绳", "用绳子跳、单摇跳绳", "object",
            _cycle(_SKIP | _body(hip=0.95), _SKIP | _body(up=0.2) | _feet(0.02, 0, 0.03)),
            "a person with a rope and both feet off the floor", cycles=(1.5, 2.5), props=(Prop("rope", "hands"),)),
    _action("stirring", "stirring a bowl, mixing with a spoon", "搅拌", "用勺子搅拌、搅动", "object",
            _cycle(*(_BOWL | _right(e, a, r) for e, a, r in
                     ((62, -30, 0.78), (70, -16, 0.98), (62, 2, 0.84), (52, -14, 0.66)))),
            "a person behind a table with a bowl", cycles=(1.6, 2.6), props=(Prop("bowl", "front"), Prop("spoon", "right hand"))),
    _action("drinking", "drinking from a cup, taking a sip", "喝水", "用杯子喝水、喝东西", "object",
            _once(_right(62, -8, 0.62), _right(100, -30, 0.5), _SIP, _SIP, _right(100, -30, 0.5), _right(62, -8, 0.62)),
            "a person with a cup at the mouth", views=(10, 60), props=(Prop("cup", "right hand"),)),
    _action("shaking hands", "giving a handshake, two people shaking hands", "握手", "互相握手、两人握手", "two people",
            _cycle(_SHAKE | _right(58, -20, 0.86), _SHAKE | _right(86, -20, 0.86)),
            "two people who hold each other's hand", cycles=(1.5, 2.6), views=(55, 90),
            partner=_cycle(_SHAKE | _right(58, -20, 0.86), _SHAKE | _right(86, -20, 0.86)), distance=1.06),
    _action("passing a box", "handing over a box, giving a box to someone", "递箱子", "把箱子递给别人、传递箱子", "two people",
            _once(_HOLD, _arms(80, -8, 0.95) | _body(lean=10), _arms(80, -8, 0.95) | _body(lean=10), _arms(16, 50), _STAND),
            "two people with a box between them", views=(55, 90), props=(Prop("box", "hands", passed=0.5),), distance=1.25,
            partner=_once(_STAND, _arms(60, 10), _arms(80, -8, 0.85) | _body(lean=8), _HOLD, _HOLD)),
    _action("chasing", "chasing someone, running after someone", "追赶", "追逐、追人", "two people", _RUN,
            "two people who lean forward, one behind the other", cycles=(1.6, 2.5), views=(50, 88), travel=1.5,
            partner=_RUN, distance=1.35, away=True),
    _action("pushing", "pushing someone, giving a push", "推人", "推搡、推开别人", "two people",
            _once(_arms(70, -4, 0.45), _arms(88, -4, 0.5) | _body(lean=6),
                  _arms(88, -4, 1) | _body(lean=22) | _step((0, 0.3), (0, -0.3)), _arms(85, -4, 0.9) | _body(lean=12)),
            "two people, one with both arms forward and the other leaning back", views=(55, 90), distance=0.85,
            partner=_once(_STAND, _STAND, _body(tilt=-18, go=-0.3, hip=0.9) | _arms(85, 30) | _step((0.2, 0.2), (0, -0.2)),
                          _body(tilt=-20, go=-0.8, hip=0.88) | _arms(80, 60) | _step((0, -0.1), (0.15, 0.25)))),
)  # fmt: skip

UNSEEN: tuple[Action, ...] = (
    _action("lunging", "doing lunges, stepping into a lunge", "弓步", "弓步蹲、做弓步", "motion", _cycle(_STAND, _LUNGE),
            "a person with both knees bent, legs apart, both arms down", cycles=(1.0, 1.6), views=(30, 80)),
    _action("crawling", "crawling on hands and knees, moving on all fours", "爬行", "在地上爬、四肢爬行", "motion",
            _cycle(_CRAWL, _swap(_CRAWL)), "a person with leaning forward, hips low", cycles=(1.0, 1.6), views=(40, 85), travel=0.4),
    _action("sit-ups", "doing sit-ups, crunches", "仰卧起坐", "做仰卧起坐、卷腹", "motion", _cycle(_LIE, _CURL),
            "a person with lying on the back, both knees bent", cycles=(1.0, 1.7), views=(45, 90)),
    _action("hugging", "hugging someone, embracing", "拥抱", "抱住别人、互相拥抱", "two people",
            _once(_arms(60, 40, 0.8), _arms(84, 30, 0.95), _arms(84, -22, 0.8) | _body(lean=8), _arms(84, -22, 0.8)),
            "two people with both arms stretched forward, hands together", views=(50, 90), distance=0.42,
            partner=_once(_arms(60, 40, 0.8), _arms(84, 30, 0.95), _arms(70, -22, 0.8) | _body(lean=8), _arms(70, -22, 0.8))),
    _action("giving a high five", "high-fiving, slapping hands", "击掌", "互相击掌、高举击掌", "two people",
            _once(_STAND, _right(150, 20, 0.8), _right(122, -12, 0.95) | _body(lean=6), _right(122, -12, 0.95), _STAND),
            "two people with right arm raised, left arm down", views=(55, 90), distance=0.98,
            partner=_once(_STAND, _right(150, 20, 0.8), _right(122, -12, 0.95) | _body(lean=6), _right(122, -12, 0.95), _STAND)),
    _action("lifting a barbell", "weightlifting, pressing a barbell overhead", "举杠铃", "举重、推举杠铃", "object",
            _cycle(_RACK, _PRESS), "a person with both arms raised, barbell", cycles=(1.0, 1.6), props=(Prop("barbell", "hands"),)),
    _action("hopping on one leg", "hopping, jumping on one foot", "单脚跳", "单腿跳、金鸡独立跳", "motion",
            _cycle(_HOP | _BALANCE, _HOP | _body(up=0.2)), "a person with both feet off the floor, left knee bent", cycles=(1.6, 2.6), views=(15, 70)),
    _action("bending sideways", "side bends, stretching to the side", "侧弯腰", "侧身弯腰、体侧屈", "motion",
            _cycle(_body(bend=38) | _right(172, 60) | _left(30, 60, 0.5), _STAND | _arms(60, 80),
                   _body(bend=-38) | _left(172, 60) | _right(30, 60, 0.5), _STAND | _arms(60, 80)),
            "a person with left arm raised, leaning sideways", cycles=(0.8, 1.3), views=(0, 40)),
)  # fmt: skip


def _find(label: str) -> Action:
    return next(action for action in ACTIONS if action.label == label)


def _details() -> Iterator[Action]:
    """Yield classes that differ in one limb, in speed or in number only."""
    arm = replace(_RAISING, keys=(_once(_right(6, 85), _right(88, 85), _right(170, 80)),))
    for side, zh, mirrored in (("left", "左", True), ("right", "右", False)):
        for action, english, chinese in (
            (arm, f"raising the {side} arm", f"举起{zh}臂"),
            (_find("kicking a ball"), f"kicking with the {side} leg", f"用{zh}腿踢"),
        ):
            yield replace(_renamed(action, english, chinese), group="limb", mirrored=mirrored)
    for action, slow, quick in ((_find("waving"), 0.9, 2.7), (_find("squatting"), 0.7, 2.0)):
        for rate, zh, cycles in (("slowly", "慢慢", slow), ("quickly", "快速", quick)):
            renamed = _renamed(action, f"{action.label} {rate}", zh + action.chinese)
            yield replace(renamed, group="speed", cycles=(cycles, 1.1 * cycles))
    for action in (_find("jumping"), _find("bowing")):
        for count, number, zh in ((1.0, "once", "一次"), (2.0, "twice", "两次"), (3.0, "three times", "三次")):
            renamed = _renamed(action, f"{action.label} {number}", action.chinese + zh)
            yield replace(renamed, group="count", cycles=(count, count))


def _renamed(action: Action, label: str, chinese: str) -> Action:
    return replace(action, label=label, synonyms=(label,), chinese=chinese, chinese_synonyms=(chinese,))


DETAILS = tuple(_details())
