from hf_videolang.data.protocol import Protocol, join_protocols


def test_the_printed_line():
    counts, published = {"videos": 2, "captions": 2}, {"videos": 1000, "captions": 1000}
    protocol = Protocol("msrvtt-1ka", "retrieval", "test", counts, published, "test.csv")
    assert str(protocol) == "msrvtt-1ka, test: 2 of 1000 videos, one caption a video (test.csv)"
    assert protocol.facts == {"size": "2 of 1000 videos, one caption a video"}
    several = Protocol("mine", "retrieval", "train", {"videos": 2, "captions": 5}, {}, "a.csv", "paragraphs")
    assert str(several) == "mine, train: 2 videos, 5 captions, each a query of its own (a.csv); paragraphs"
    assert several.facts["note"] == "paragraphs"
    asked = Protocol("msrvtt-qa", "question_answering", "test", {"videos": 3, "questions": 7}, {}, "qa.json")
    assert asked.size == "3 videos, 7 questions"


def test_splits_read_as_one_add_their_sizes():
    parts = [
        Protocol("b", "retrieval", split, {"videos": n, "captions": 2 * n}, {"videos": 10 * n}, "a.json")
        for split, n in (("train", 3), ("validation", 1))
    ]
    joined = Protocol("b", "retrieval", "train+validation", {"videos": 4, "captions": 8}, {"videos": 40}, "a.json")
    assert join_protocols(parts) == joined
    unpublished = Protocol("b", "retrieval", "test", {"videos": 1, "captions": 1}, {}, "b.json")
    assert join_protocols([*parts, unpublished]).published == {}
