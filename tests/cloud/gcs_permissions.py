"""What the fake Google Cloud Storage permits: refusals in Google's words, as a test asks for them."""

from tests.cloud.http import HttpError, Request

PRINCIPAL = "w2v2@example.iam.gserviceaccount.com"


class GcsPermissions:
    """The permissions that are denied, and whether requests need a token."""

    def __init__(self) -> None:
        super().__init__()
        self._denied: set[tuple[str, str]] = set()
        self._login_required = False

    def deny(self, bucket: str, permission: str) -> None:
        """Answer 403 in Google's words to what needs the permission, e.g. storage.objects.get."""
        self._denied.add((bucket, permission))

    def allow(self, bucket: str, permission: str) -> None:
        self._denied.discard((bucket, permission))

    def require_login(self) -> None:
        """Answer 401 in Google's words to requests without a token."""
        self._login_required = True

    def _permit(self, request: Request, bucket: str, permission: str) -> None:
        noun = (
            "bucket" if permission.startswith("storage.buckets") or permission.endswith(".list") else "object"
        )
        rest = (
            f"does not have {permission} access to the Google Cloud Storage {noun}. "
            f"Permission '{permission}' denied on resource (or it may not exist)."
        )
        if self._login_required and "authorization" not in request.headers:
            raise HttpError(401, f"Anonymous caller {rest}")
        if (bucket, permission) in self._denied:
            raise HttpError(403, f"{PRINCIPAL} {rest}")
