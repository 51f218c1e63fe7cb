"""Open-ended answers and chats: overlap with references, language, safety, presuppositions, and a
language model as judge.

`base` holds what all of them share, `open_set` asks a model everything at once, the other modules
hold one measure each. Rules are simple, say what they cannot see, and are tested on labelled
answers. Research only: no score here says that an answer is medical advice.
"""
