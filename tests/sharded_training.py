"""A script of somebody's own that several processes run together, started by torchrun: see test_attach_sharded."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))
import coldfuse

warnings.simplefilter("ignore")


class Rows(Dataset):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(4, 60, (8,), generator=torch.Generator().manual_seed(i))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[0] % 2}


def shard_on_processors() -> None:
    """Have Accelerate take processors for accelerators: on a CPU it would replicate the model, and shard nothing."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    PartialState().distributed_type = DistributedType.MULTI_GPU


def arguments(kind: str) -> Any:
    from transformers import TrainingArguments

    sharding = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["BertLayer"]}}
    made = TrainingArguments(
        "out",
        per_device_train_batch_size=4 if "fsdp" in kind or "killed" in kind else 8,
        report_to=[],
        learning_rate=1e-3,
        optim="sgd",
        num_train_epochs=1,
        disable_tqdm=True,
        save_strategy="steps" if kind.startswith("killed") else "no",
        save_steps=2,
        use_cpu=True,
        ddp_backend="gloo" if "RANK" in os.environ else None,
        dataloader_pin_memory=False,
        **(sharding if kind.startswith("fsdp") else {}),
    )
    assert made.device.type == "cpu"  # and with that the processes have met
    if kind.startswith("fsdp"):
        shard_on_processors()
    return made


def model_of(kind: str) -> Any:
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained("base", num_labels=2)
    if "lora" in kind:
        from peft import LoraConfig, get_peft_model

        return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    return model


class Kill:
    """Ends the process at a step of its training, as `kill -9` does; notes the steps that were done."""

    def __init__(self, step: int) -> None:
        from transformers import TrainerCallback

        self.steps: list[int] = []
        steps = self.steps

        class Callback(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                steps.append(state.global_step)
                if state.global_step == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        self.callback = Callback()


def attached(store: str, kind: str) -> dict[str, Any]:
    """Take part as a script would, and say what happened."""
    from transformers import Trainer

    is_killed = kind.startswith("killed")
    kill = Kill(int(kind.rpartition("-")[2]) if is_killed else -1)
    trainer = Trainer(model_of(kind), arguments(kind), train_dataset=Rows(), callbacks=[kill.callback])
    bases = []
    with coldfuse.connect(store) as federation:
        for round_ in coldfuse.attach(trainer, federation, name="ada", rounds=1 if is_killed else 2):
            trainer.train()
            bases.append(round_.base_release)
    is_whole = all(parameter.numel() == local_size(parameter) for parameter in trainer.model.parameters())
    return {"rank": os.environ.get("RANK", "0"), "bases": bases, "is_whole": is_whole, "steps": kill.steps}


def local_size(parameter: Any) -> int:
    return getattr(parameter, "_local_tensor", parameter).numel()


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    print("said", json.dumps(attached(sys.argv[2], sys.argv[3])), flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()
