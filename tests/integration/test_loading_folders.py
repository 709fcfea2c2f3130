import pytest

from coldfuse.errors import UserInputError
from coldfuse.modeling.loading import load_body, load_tokenizer


def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path):
    for load in (load_body, load_tokenizer):
        with pytest.raises(UserInputError, match="expected a Hugging Face model folder") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)
