"""SQL text made of names and values."""

import pytest


def test_columns_named_by_data_never_become_sql() -> None:
    from w2v2.errors import UserError
    from w2v2.tables.spec import embeddings_spec

    for name in ('a"', "a`", "a\\", "a\n", "", "a" * 129):
        with pytest.raises(UserError, match="cannot be a column of a table: its name must have 1 to 128"):
            embeddings_spec(extra_columns=[name])
    with pytest.raises(UserError, match="columns Label, label differ in case alone"):
        embeddings_spec(extra_columns=["Label", "label"])
