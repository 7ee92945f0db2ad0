"""Mistakes a user can fix: every job reports them in one sentence, without a traceback."""


class UserError(ValueError):
    """A mistake the user can fix: one sentence with what is wrong, what was given, what was expected and what to do."""


class ResumableError(UserError):
    """Nothing is wrong with the settings or a trial: something is gone that the same command makes again."""
