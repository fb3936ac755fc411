from farfield_morse import MorseOracle

from farfield.oracles.contract import OracleContract, periodic_cell


class TestMorse(OracleContract):
    def make_oracle(self):
        return MorseOracle()

    def make_cell(self):
        return periodic_cell("fcc", "Cu", 3.6)
