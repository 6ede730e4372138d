"""600 measured pieces: how they were made, and whether they passed. Stands for data of your own."""

import numpy as np
import pandas as pd


def measured() -> tuple[pd.DataFrame, np.ndarray]:
    """Inputs with named columns, gaps included, and a label for each row."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "temperature": draw.normal(180, 12, 600),
            "pressure": draw.normal(3.0, 0.4, 600),
            "minutes": draw.uniform(10, 40, 600),
            "humidity": draw.uniform(20, 60, 600),
            "resin": draw.choice(["A", "B", "C"], 600),
        }
    )
    heat = (table["temperature"] - 180) / 12 + (table["minutes"] - 25) / 10
    shift = table["resin"].map({"A": -0.5, "B": 0.0, "C": 0.5})
    passed = (heat + shift).abs() + draw.normal(0, 0.3, 600) < 1
    table.loc[draw.random(600) < 0.05, "pressure"] = np.nan
    return table.round(2), np.where(passed, "pass", "fail")


if __name__ == "__main__":
    inputs, labels = measured()
    inputs.assign(target=labels).to_csv("pieces.csv", index=False)
    numbers = inputs.drop(columns="resin").fillna(inputs["pressure"].median()).to_numpy()
    np.savez("pieces.npz", x=numbers, y=labels == "pass", class_names=np.array(["fail", "pass"]))
