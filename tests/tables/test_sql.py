"""SQL text made of names and values."""

import pytest


def test_columns_named_by_data_never_become_sql() -> None:
    from w2v2.errors import UserError
    from w2v2.tables.spec import embeddings_spec

    for name in ("a b", 'a"', "a`", "1a", "", "a" * 129, "a;--", "\u00e9"):
        with pytest.raises(UserError, match=r"cannot be a column of a table: use letters, digits and _"):
            embeddings_spec(carried=[name])
    with pytest.raises(UserError, match="columns Label, label are one and the same in a table"):
        embeddings_spec(carried=["Label", "label"])
