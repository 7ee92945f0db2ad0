"""What a user can mend: the one error that every job tells in a sentence."""


class UserError(ValueError):
    """A mistake the user can mend: one sentence that says what, got, wanted and what to do."""


class ResumableError(UserError):
    """Nothing is wrong with the settings or a trial: something is gone that the same command makes again."""
