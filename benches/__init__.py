"""fleetsim against its opponents and the machine: one campaign, many ways to work it out.

campaign    what is worked out: the fleet, the scenario, and the answer in closed form
opponents   who works it out; its docstring says how to add one
checks      whether what came out is that answer
worker      one measurement, in a process of its own
layers      where the time of a run goes
tables      what is kept of the measurements, and the tables of the documents
small       has a kernel become slower? for every commit
__main__    rounds in turn, medians, the table
"""
