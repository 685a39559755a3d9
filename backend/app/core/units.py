"""Format quantities for people. Memory is binary here: 1 GB means 2**30 bytes, as in `vram_required_gb`."""

GIB = 1 << 30
MIB = 1 << 20


def format_bytes(count: int | float) -> str:
    """Return a short size such as "1.4 GB" or "312 MB" (binary units, one decimal from 1 GB up)."""
    if count >= GIB:
        return f"{count / GIB:.1f} GB"
    if count >= MIB:
        return f"{count / MIB:.0f} MB"
    return f"{count / 1024:.0f} KB" if count >= 1024 else f"{count:.0f} B"


def format_seconds(seconds: float) -> str:
    """Return a short duration such as "42 s", "3 min 10 s" or "2 h 05 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
