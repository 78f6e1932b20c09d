"""Partners: drawn uniformly among exactly the chips that the policy allows, whatever the dates look like."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl.chips.pairs import SEASON_DAYS, PairIndex, PairPolicy, pair_policy
from geossl.errors import InputError

chips = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.none(), st.dates(date(2015, 1, 1), date(2021, 12, 31)))),
    min_size=1,
    max_size=30,
)
policies = st.one_of(st.just(PairPolicy(None)), st.builds(PairPolicy, st.integers(1, 800)))


def index_of(rows) -> PairIndex:
    stamps = pd.Series(pd.to_datetime([day for _, day in rows], utc=True))
    return PairIndex(np.array([tile for tile, _ in rows]), stamps, torch.device("cpu"))


def allowed(rows, number: int, policy: PairPolicy) -> set[int]:
    """Partners of one chip by the words of the policy, chip by chip."""
    tile, day = rows[number]
    found = set()
    for other, (other_tile, other_day) in enumerate(rows):
        if other == number or other_tile != tile or day is None or other_day is None:
            continue
        apart = abs((day - other_day).days)
        of_year = abs(day.timetuple().tm_yday - other_day.timetuple().tm_yday)
        season = min(of_year, 366 - of_year) >= SEASON_DAYS
        if season if policy.max_days is None else apart <= policy.max_days:
            found.add(other)
    return found


@settings(max_examples=60, deadline=None)
@given(rows=chips, policy=policies, seed=st.integers(0, 2**32))
def test_a_partner_is_always_one_that_the_policy_allows(rows, policy, seed):
    index = index_of(rows)
    expected = [allowed(rows, number, policy) for number in range(len(rows))]
    assert index.counts(policy).tolist() == [len(others) for others in expected]
    partners = index.draw(torch.arange(len(rows)), policy, torch.Generator().manual_seed(seed)).tolist()
    for number, partner in enumerate(partners):
        assert partner in (expected[number] or {number})


def test_partners_are_drawn_evenly():
    days = pd.date_range("2018-01-01", periods=5, freq="10D").date
    index = index_of([(0, day) for day in days])
    for policy, expected in ((PairPolicy(20), {0, 1, 3, 4}), (PairPolicy(10), {1, 3})):
        drawn = index.draw(torch.full((4000,), 2), policy, torch.Generator().manual_seed(0))
        names, counts = drawn.unique(return_counts=True)
        assert set(names.tolist()) == expected
        assert (counts - 4000 / len(expected)).abs().max() < 200


def test_winter_and_summer_pair_across_years_and_december_is_near_january():
    rows = [(0, day.date()) for day in pd.to_datetime(["2018-12-20", "2020-01-05", "2019-07-01", "2016-06-20"])]
    index = index_of(rows)
    season = PairPolicy(None)
    assert index.counts(season).tolist() == [2, 2, 2, 2]
    partners = index.draw(torch.arange(4).repeat(50), season, torch.Generator().manual_seed(0)).view(50, 4)
    assert set(partners[:, :2].flatten().tolist()) == {2, 3}
    assert set(partners[:, 2:].flatten().tolist()) == {0, 1}


def test_draws_depend_on_the_generator_alone():
    index = index_of([(number % 3, day) for number, day in enumerate(pd.date_range("2018", periods=60).date)])
    draws = [index.draw(torch.arange(60), PairPolicy(30), torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_policies_are_read_from_words_and_from_yaml():
    assert pair_policy(None) is None and pair_policy({}) is None and pair_policy("same") is None
    assert pair_policy("30-days") == pair_policy({"max_days": 30}) == PairPolicy(30)
    assert pair_policy("other-season") == pair_policy({"other_season": True}) == PairPolicy(None)
    assert str(PairPolicy(30)) == "same tile within 30 days" and "season" in str(PairPolicy(None))


@pytest.mark.parametrize("bad", ["weekly", "0-days", {"max_days": 0}, {"day": 3}, {"max_days": 3, "other_season": 1}])
def test_other_policies_are_refused_with_the_ones_there_are(bad):
    with pytest.raises(InputError, match="other-season"):
        pair_policy(bad)
