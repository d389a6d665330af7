"""fleetsim against its opponents and the machine: one campaign, many ways to work it out.

campaign    what is worked out: the fleet, the scenario, and the answer in closed form
opponents   who works it out; its docstring says how to add one
checks      whether what came out is that answer
worker      one measurement, in a process of its own
__main__    rounds in turn, medians, the table
"""
