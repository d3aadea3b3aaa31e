"""From a staged folder to the Hub."""

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id

from conv_dlm.hub.checks import problems
from conv_dlm.hub.staging import CARD, Kind, Staged


def push(
    staged: Staged,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a staged folder. Files that are on the Hub already and not in the folder stay there; an upload that was
    interrupted goes on where it stopped.

    Args:
        staged ([`Staged`]): what `stage` returned.
        repo_id (`str`): `name` or `namespace/name`; made if it does not exist.
        private (`bool`, *optional*): of a repository that is made; the namespace's default if unset.
        revision (`str`, *optional*): an existing branch; the main one if unset.
        create_pr (`bool`, defaults to `False`): open a pull request instead of committing.
        commit_message (`str`, *optional*): says which version of conv-dlm uploaded it if unset.
        token (`str`, *optional*): that of `hf auth login` if unset.

    Returns:
        `str`: the address of the commit, or of the pull request.

    Raises:
        ValueError: the name is none on the Hub, something is wrong with the folder, or the Hub finds its card wrong.
        HfHubHTTPError: the Hub refuses.
    """
    validate_repo_id(repo_id)
    if wrong := problems(staged):
        raise ValueError(" ".join(wrong))
    repo_type, api = staged.kind.repo_type, HfApi(token=token)
    card = staged.kind.card_class.load(staged.folder / CARD)
    card.validate(repo_type)  # by the Hub itself
    repo = api.create_repo(
        repo_id,
        repo_type=repo_type,
        private=private,
        exist_ok=True,
        space_sdk=card.data.sdk if staged.kind is Kind.SPACE else None,
    )
    commit = api.upload_folder(
        repo_id=repo.repo_id,
        folder_path=staged.folder,
        repo_type=repo_type,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message or "Upload with conv-dlm",
    )
    return str(commit.pr_url or commit.commit_url)
