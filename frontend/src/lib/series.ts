/** A curve: one value per step, steps rising. */
export interface Series {
  steps: number[];
  values: number[];
}

/** Adds a point; a step that is already there is replaced, so that history and live events may overlap. */
export function withPoint(series: Series, step: number, value: number): Series {
  const last = series.steps.at(-1);
  if (last === undefined || step > last) return { steps: [...series.steps, step], values: [...series.values, value] };
  const index = series.steps.indexOf(step);
  if (index < 0) return series;
  const values = [...series.values];
  values[index] = value;
  return { steps: series.steps, values };
}

/** Exponential moving average with bias correction (Kingma and Ba 2015, section 3). */
export function smoothed(values: readonly number[], weight: number): number[] {
  let average = 0;
  return values.map((value, index) => {
    average = weight * average + (1 - weight) * value;
    return average / (1 - weight ** (index + 1));
  });
}
