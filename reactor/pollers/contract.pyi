class OpOwner: ...

class Poller:
    live_ops: int
    closed: bool
    foreign: bool
