import shapewright as sw

design = sw.Design(sw.families.closed_bar(control_points=8, start="star"), mesh_size=0.15)
problem = sw.Problem(sw.physics.poisson(dimension=2), source=2.0, dirichlet={"wall": 0.0})
study = sw.Study(design, problem, maximize="torsional_constant", constraints=[sw.equals("area", 3.14159)])
best = sw.optimize(study, sw.SLSQP(starts=8), model=sw.fem(study))
print(best.reason, sw.certify(study, best.theta))
