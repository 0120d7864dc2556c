"""One process of `test_parallel.py`: RANK, then the number of processes, then a folder with the model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from llamatok.models import LlamaForCausalLM
from llamatok.models.parallel import gathered_state_dict, shard_for_training, tensor_parallel


def largest_difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in other)


def inference(folder, mesh, ids):
    whole = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    parts = tensor_parallel(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).fuse(), mesh)
    with torch.inference_mode():
        expected = whole(ids).logits
        found = parts(ids).logits
        first = parts(ids[:, :5], use_cache=True)
        steps = [first.logits]
        cache = first.past_key_values
        for place in range(5, ids.shape[1]):
            steps.append(parts(ids[:, place : place + 1], past_key_values=cache, use_cache=True).logits)
    state = gathered_state_dict(parts)
    report = {
        "logits": float((found - expected).abs().max() / expected.abs().max()),
        "steps": float((torch.cat(steps, 1) - expected).abs().max() / expected.abs().max()),
        "local": sum(
            parameter.to_local().numel()
            for parameter in parts.model.layers.parameters()
            if hasattr(parameter, "to_local")
        ),
        "whole": sum(
            parameter.numel() for parameter in whole.model.layers.parameters() if parameter.dim() == 2
        ),
        "kv_heads": cache[0][0].shape[1] if hasattr(cache, "__getitem__") else None,
    }
    if dist.get_rank() == 0:
        report["state"] = largest_difference(state, whole.state_dict())
    return report


def training(folder, ids, spread):
    """Losses of two steps and the weights after them, of one process with all rows against all with some."""

    def steps(model, rows):
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for _ in range(2):
            loss = model(rows, labels=rows, use_cache=False).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    whole = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = steps(whole, ids)
    model, rows = spread(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), ids)
    found = steps(model, rows)
    if len(rows) < len(ids):
        dist.all_reduce(found)
        found = found / dist.get_world_size()
    report = {"losses": float((found - expected).abs().max()), "fell": bool(expected[1] < expected[0])}
    state = gathered_state_dict(model)
    if dist.get_rank() == 0:
        report["state"] = largest_difference(state, whole.state_dict())
        model.save_pretrained(folder / "saved", state_dict=state)
        again = LlamaForCausalLM.from_pretrained(folder / "saved")
        report["saved"] = largest_difference(again.state_dict(), whole.state_dict())
    dist.barrier()
    return report


def main():
    rank, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count)
    mesh = dist.device_mesh.init_device_mesh("cpu", (count,))
    ids = torch.randint(3, 96, (4, 12), generator=torch.Generator().manual_seed(2))
    share = len(ids) // count
    report = {}
    for name in ("untied", "tied"):
        report[f"{name}: tensor parallel"] = inference(folder / name, mesh, ids)
        report[f"{name}: tensor parallel training"] = training(
            folder / name, ids, lambda model, rows: (tensor_parallel(model, mesh), rows)
        )
        report[f"{name}: fsdp"] = training(
            folder / name,
            ids,
            lambda model, rows: (shard_for_training(model, mesh), rows[rank * share : (rank + 1) * share]),
        )
    if rank == 0:
        print(json.dumps(report))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
