"""A live page of servers, without load: readings (`look`), what they come to (`history`, `view`), and its faces."""
