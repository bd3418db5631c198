BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('dc11669786a5');
CREATE TABLE "assessments" (
	assessment_id VARCHAR(50) NOT NULL, 
	trace_id VARCHAR(50) NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	assessment_type VARCHAR(20) NOT NULL, 
	value TEXT NOT NULL, 
	error TEXT, 
	created_timestamp BIGINT NOT NULL, 
	last_updated_timestamp BIGINT NOT NULL, 
	source_type VARCHAR(50) NOT NULL, 
	source_id VARCHAR(250), 
	run_id VARCHAR(32), 
	span_id VARCHAR(50), 
	rationale TEXT, 
	overrides VARCHAR(50), 
	valid BOOLEAN NOT NULL, 
	assessment_metadata TEXT, 
	experiment_id INTEGER, 
	trace_timestamp_ms BIGINT, 
	aggregate_value FLOAT, 
	is_numeric_value BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT assessments_pk PRIMARY KEY (assessment_id), 
	CONSTRAINT fk_assessments_trace_id FOREIGN KEY(trace_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE budget_policies (
	budget_policy_id VARCHAR(36) NOT NULL, 
	budget_unit VARCHAR(32) NOT NULL, 
	budget_amount FLOAT NOT NULL, 
	duration_unit VARCHAR(32) NOT NULL, 
	duration_value INTEGER NOT NULL, 
	target_scope VARCHAR(32) NOT NULL, 
	budget_action VARCHAR(32) NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, target_value VARCHAR(255), 
	CONSTRAINT budget_policies_pk PRIMARY KEY (budget_policy_id)
);
CREATE TABLE "datasets" (
	dataset_uuid VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(36) NOT NULL, 
	dataset_source_type VARCHAR(36) NOT NULL, 
	dataset_source TEXT NOT NULL, 
	dataset_schema TEXT, 
	dataset_profile TEXT, 
	CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest), 
	CONSTRAINT fk_datasets_experiment_id_experiments FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "datasets" VALUES('051828dd992d46d2bfe65f0d4d0f8bbf',1,'recipe','e62865c59fc92e54','code','{"tags": {"mlflow.source.name": "keras-nas", "mlflow.source.type": "LOCAL", "mlflow.user": "root"}}','{"mlflow_tensorspec": {"features": "[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1, 6]}, \"name\": \"x\"}]", "targets": "[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"int32\", \"shape\": [-1]}, \"name\": \"y\"}]"}}','{"x": {"shape": [48, 6], "dtype": "float32"}, "y": {"shape": [48], "dtype": "int32"}}');
INSERT INTO "datasets" VALUES('15f9093a521241e7a5eac0c8fc5b3389',1,'recipe-validation','62e1860bac232e3c','code','{"tags": {"mlflow.source.name": "keras-nas", "mlflow.source.type": "LOCAL", "mlflow.user": "root"}}','{"mlflow_tensorspec": {"features": "[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1, 6]}, \"name\": \"x\"}]", "targets": "[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"int32\", \"shape\": [-1]}, \"name\": \"y\"}]"}}','{"x": {"shape": [24, 6], "dtype": "float32"}, "y": {"shape": [24], "dtype": "int32"}}');
CREATE TABLE endpoint_bindings (
	endpoint_id VARCHAR(36) NOT NULL, 
	resource_type VARCHAR(50) NOT NULL, 
	resource_id VARCHAR(255) NOT NULL, 
	created_at BIGINT NOT NULL, 
	created_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), display_name VARCHAR(255), 
	CONSTRAINT endpoint_bindings_pk PRIMARY KEY (endpoint_id, resource_type, resource_id), 
	CONSTRAINT fk_endpoint_bindings_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE
);
CREATE TABLE endpoint_model_mappings (
	mapping_id VARCHAR(36) NOT NULL, 
	endpoint_id VARCHAR(36) NOT NULL, 
	model_definition_id VARCHAR(36) NOT NULL, 
	weight FLOAT NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, linkage_type VARCHAR(64) DEFAULT 'PRIMARY' NOT NULL, fallback_order INTEGER, 
	CONSTRAINT endpoint_model_mappings_pk PRIMARY KEY (mapping_id), 
	CONSTRAINT fk_endpoint_model_mappings_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE, 
	CONSTRAINT fk_endpoint_model_mappings_model_definition_id FOREIGN KEY(model_definition_id) REFERENCES model_definitions (model_definition_id)
);
CREATE TABLE endpoint_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	endpoint_id VARCHAR(36) NOT NULL, 
	CONSTRAINT endpoint_tag_pk PRIMARY KEY ("key", endpoint_id), 
	CONSTRAINT fk_endpoint_tags_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE
);
CREATE TABLE "endpoints" (
	endpoint_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255), 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	routing_strategy VARCHAR(64), 
	fallback_config_json TEXT, 
	experiment_id INTEGER, 
	usage_tracking BOOLEAN DEFAULT '0' NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT endpoints_pk PRIMARY KEY (endpoint_id), 
	CONSTRAINT fk_endpoints_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE SET NULL, 
	CONSTRAINT uq_endpoints_workspace_name UNIQUE (workspace, name)
);
CREATE TABLE entity_associations (
	association_id VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, 
	created_time BIGINT, 
	CONSTRAINT entity_associations_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
CREATE TABLE "evaluation_dataset_records" (
	dataset_record_id VARCHAR(36) NOT NULL, 
	dataset_id VARCHAR(36) NOT NULL, 
	inputs JSON NOT NULL, 
	expectations JSON, 
	tags JSON, 
	source JSON, 
	source_id VARCHAR(36), 
	source_type VARCHAR(255), 
	created_time BIGINT, 
	last_update_time BIGINT, 
	created_by VARCHAR(255), 
	last_updated_by VARCHAR(255), 
	input_hash VARCHAR(64) NOT NULL, outputs JSON, 
	CONSTRAINT evaluation_dataset_records_pk PRIMARY KEY (dataset_record_id), 
	CONSTRAINT fk_evaluation_dataset_records_dataset_id FOREIGN KEY(dataset_id) REFERENCES evaluation_datasets (dataset_id) ON DELETE CASCADE, 
	CONSTRAINT unique_dataset_input UNIQUE (dataset_id, input_hash)
);
CREATE TABLE evaluation_dataset_tags (
	dataset_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT evaluation_dataset_tags_pk PRIMARY KEY (dataset_id, "key"), 
	CONSTRAINT fk_evaluation_dataset_tags_dataset_id FOREIGN KEY(dataset_id) REFERENCES evaluation_datasets (dataset_id) ON DELETE CASCADE
);
CREATE TABLE "evaluation_datasets" (
	dataset_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	schema TEXT, 
	profile TEXT, 
	digest VARCHAR(64), 
	created_time BIGINT, 
	last_update_time BIGINT, 
	created_by VARCHAR(255), 
	last_updated_by VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT evaluation_datasets_pk PRIMARY KEY (dataset_id)
);
CREATE TABLE "experiment_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
INSERT INTO "experiment_tags" VALUES('mlflow.sharedViewState.efd4a48a44602612','{"name": "Trials by val_accuracy", "createdAt": 1795905165326, "updatedAt": 1795905165326, "state": "deflate;eNrdWNtu2zgQ/RVDL30JWknW1cA+uF5vG6zTBEmQFiiKhCJHNrc0ZYhUGjXIv+9QN9/dYjdGgDzFGQ2HM+fMDId8tEihs0tIc1CzsSSJAGYNdF7AiUUzUczlec4gtwZfLaJ1zpNCg3p7d1nI3icyhzvrxMoL+SfRMJTsEyh9KtMMhXNAZYqaWfIPUM3v4d09EbeE0iIntLxbVaGZ0u8WJEd7GnK1/S0V2aISV0ooJcYi0TyTq1JBymZ5Kykk12sCmeVzIrgCtirN0f0dHgH5fjuHeZaXt0mJYW+r6JxweauAZpJVnxlGZ9yyvrXwfeZMz5Q1eNyD38Dx7JV1g8jeE/3AsYNDoKEh5zdCGDix/YswBk7g/gaDtaVdlNSubtJShbaLiHX1mow15YbGSrYj2wZO334yeM9xASC0oxnJNWL+9dFiIBAfTOmUCIU5zdUHkGD2WMrqSK9MkJk8RbkVM9IH8D2XekEYRqTOcjXKCqmvs1G9kfEbHVK4A0VzZzVeplI2uMHVuzE0WdIuv6hireqsQxIX1uDhjwoD/LsEzjiFcVRGZtmPoRAYuuqi0uUCXbQuhpfDyWQ8MSYKboLzI0oII5FN7MAhrmc9nfxXnDADILBpBMz2Y0qSQzg1/lyNhtfX48ulOzRJfc+PXZ8GQKjfxy8P5IFXJfMdSqOxBWdj62x8fXk6Qv+tcn3FHri3Fr5s5DFEaRwx6gYQgB36eyKv6v/VBA3MR6p9myQs8cMo2kf3Zud6NQCEzIuCyE1DGjEXKhu7AFjryUcOnnG1wEZjDiTU3FjPp9hy4LzQgpviOwSY4BKu5lmmZxIUqnYHzd+VixuGt+EFFvSj1GFpwmwauH7V4eQUnXp8OtSBKRFwXYdpXCC5teyrX4YI09mKF0tIJqefxoYXBR9ElhAx6dznctoOQd3XLwbvykTzoSliO/ATCGMn8R0gjBo6h62mpTQsWsnVLjdL82X8sMDxSyEM5gD41khrCzVK1q9pOwplr44uh3gOYWkQu3ZIsBe9GF2mGESm1LNXWGP0ddAFThLjIdlnUex6NIpfjK5np+pV0dS3kyRhfdsPqU9t4h6Lpm+rU34DWj3n15ct/I13oD1Mtj7vIourS8jMRXd5+5U18R/R13w5fPaIZL3urF2Z5TZvDCalOqfcZ3bqvHWgR6Y4JijdMzPD0putOeWo3kyQRYnZ0sOz4r6a1LpZbyOVD9TZwVrav/cOKlw7CbHF28yOnZSGwRF2TWAV7YQmMYm9wGGh7QcuOcKG6/QSD6fHMPYBSy3wyDFwXeTZQ7nc0U5S14nTxIt93w769hF2PMvQXq95dVi5Hnp9zKAoDH28suIF8Qg7X5XYoebbW7tp6kWhl7i4O/WSuv8wookCrf7iQlfvYiibdp2zenkYZTLlUzOa7zgDDrXkzZ6J/X6aZ8XiPUpkIUTzr2mV2IZMHOZImHEG4/lCl+2zR1vDQ0oxYGyRW4ELngItqYA2CmvYFtHc0HCDnQ7XLb8K0aseF06sytL7cqhoh2wjWm3VBx/+8AybcKU/csZAdlbMybYemJG0Sgbm5f8mVwxxH88/3w4nk+YadsGlNGtb3RuueMIF1+UZWdQmFbYqOuvi0mRq3qKIevudS3bX+6P3Br0n4s3K2Tlq2+bXIz1q/v9Xx6M+i5rnJY2Jdc2rYqnhNgOBSUVgN0QUoE7levLdc/hxhrPCnP/sSvDpX43irOY="}',1);
CREATE TABLE "experiments" (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), 
	creation_time BIGINT, 
	last_update_time BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
INSERT INTO "experiments" VALUES(0,'Default','{ROOT}/mlruns/0','active',1795905164804,1795905164804,'default');
INSERT INTO "experiments" VALUES(1,'earlier','{ROOT}/mlruns/1','active',1795905164851,1795905164851,'default');
CREATE TABLE guardrail_configs (
	endpoint_id VARCHAR(36) NOT NULL, 
	guardrail_id VARCHAR(36) NOT NULL, 
	execution_order INTEGER, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT guardrail_configs_pk PRIMARY KEY (endpoint_id, guardrail_id), 
	CONSTRAINT fk_guardrail_configs_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE, 
	CONSTRAINT fk_guardrail_configs_guardrail_id FOREIGN KEY(guardrail_id) REFERENCES guardrails (guardrail_id) ON DELETE CASCADE
);
CREATE TABLE guardrails (
	guardrail_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	scorer_version INTEGER NOT NULL, 
	stage VARCHAR(32) NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	action_endpoint_id VARCHAR(36), 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT guardrails_pk PRIMARY KEY (guardrail_id), 
	CONSTRAINT fk_guardrails_scorer_version FOREIGN KEY(scorer_id, scorer_version) REFERENCES scorer_versions (scorer_id, scorer_version), 
	CONSTRAINT fk_guardrails_action_endpoint_id FOREIGN KEY(action_endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE SET NULL
);
CREATE TABLE input_tags (
	input_uuid VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);
INSERT INTO "input_tags" VALUES('30a827a43c25405986135465eaecaee5','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('bb46f112f8124298b80b870132dbc43e','mlflow.data.context','validation');
INSERT INTO "input_tags" VALUES('b169d30b9583406db61ccd4138ae629b','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('85fa40b62e8244eb88fe9f8779eed339','mlflow.data.context','validation');
INSERT INTO "input_tags" VALUES('c0861ec110d64cd7a9833244c1c99c66','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('b3aeae5498bc4e32aa2e41554df86f99','mlflow.data.context','validation');
INSERT INTO "input_tags" VALUES('8ff2518353a140afba84b090c85cbee2','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('0639df99a3c2445ba73b107aff798b35','mlflow.data.context','validation');
INSERT INTO "input_tags" VALUES('3d2390fbdb0049018280afa1efa51692','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('1cc439eab9c4426699cf6b8add426ea0','mlflow.data.context','validation');
INSERT INTO "input_tags" VALUES('2dd41e20235f463bbbde1514ee7fcf33','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('cfdcc923bedf4a19a212eb6edfc90adf','mlflow.data.context','validation');
INSERT INTO "input_tags" VALUES('31289a0a0b11407e9642015738c55d55','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('5041fc03e41547feaeabf5af3a012cbe','mlflow.data.context','validation');
INSERT INTO "input_tags" VALUES('5c9feff8b2794155a7bad8ad44b0058c','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('5db2494cae6b45f6bf261a1dfdb6c86f','mlflow.data.context','validation');
INSERT INTO "input_tags" VALUES('bb9ebb53fa7c4459be8cfe0e924fe8b7','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('5cda7feb94524b78ab790b4d0eb6a04b','mlflow.data.context','validation');
CREATE TABLE inputs (
	input_uuid VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
INSERT INTO "inputs" VALUES('30a827a43c25405986135465eaecaee5','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','0768df05c0f045fd9640971c53c13973',0);
INSERT INTO "inputs" VALUES('bb46f112f8124298b80b870132dbc43e','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','0768df05c0f045fd9640971c53c13973',0);
INSERT INTO "inputs" VALUES('b169d30b9583406db61ccd4138ae629b','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','ea376c9b675445ecae18f4997c4a3942',0);
INSERT INTO "inputs" VALUES('85fa40b62e8244eb88fe9f8779eed339','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','ea376c9b675445ecae18f4997c4a3942',0);
INSERT INTO "inputs" VALUES('c0861ec110d64cd7a9833244c1c99c66','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','920c5ec3a26e47aeaf55d07d9cb8a903',0);
INSERT INTO "inputs" VALUES('b3aeae5498bc4e32aa2e41554df86f99','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','920c5ec3a26e47aeaf55d07d9cb8a903',0);
INSERT INTO "inputs" VALUES('8ff2518353a140afba84b090c85cbee2','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','20dda9d6ec3b47e18f51c7ab2699c4cd',0);
INSERT INTO "inputs" VALUES('0639df99a3c2445ba73b107aff798b35','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','20dda9d6ec3b47e18f51c7ab2699c4cd',0);
INSERT INTO "inputs" VALUES('3d2390fbdb0049018280afa1efa51692','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','39f237f119734d20a6a9dc3152ac495e',0);
INSERT INTO "inputs" VALUES('1cc439eab9c4426699cf6b8add426ea0','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','39f237f119734d20a6a9dc3152ac495e',0);
INSERT INTO "inputs" VALUES('2dd41e20235f463bbbde1514ee7fcf33','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','8e2e59afae634e9facb22096f2bbcb59',0);
INSERT INTO "inputs" VALUES('cfdcc923bedf4a19a212eb6edfc90adf','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','8e2e59afae634e9facb22096f2bbcb59',0);
INSERT INTO "inputs" VALUES('31289a0a0b11407e9642015738c55d55','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','507ae5e13a354522902c683f43b2b825',0);
INSERT INTO "inputs" VALUES('5041fc03e41547feaeabf5af3a012cbe','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','507ae5e13a354522902c683f43b2b825',0);
INSERT INTO "inputs" VALUES('5c9feff8b2794155a7bad8ad44b0058c','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','7c1f2a387b1944409b3d7ce1ed5e282e',0);
INSERT INTO "inputs" VALUES('5db2494cae6b45f6bf261a1dfdb6c86f','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','7c1f2a387b1944409b3d7ce1ed5e282e',0);
INSERT INTO "inputs" VALUES('bb9ebb53fa7c4459be8cfe0e924fe8b7','DATASET','051828dd992d46d2bfe65f0d4d0f8bbf','RUN','5b910221602e4665aa02b11bef39044f',0);
INSERT INTO "inputs" VALUES('5cda7feb94524b78ab790b4d0eb6a04b','DATASET','15f9093a521241e7a5eac0c8fc5b3389','RUN','5b910221602e4665aa02b11bef39044f',0);
CREATE TABLE issues (
	issue_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	description TEXT NOT NULL, 
	status VARCHAR(50) NOT NULL, 
	severity VARCHAR(50), 
	root_causes TEXT, 
	source_run_id VARCHAR(32), 
	categories TEXT, 
	created_timestamp BIGINT NOT NULL, 
	last_updated_timestamp BIGINT NOT NULL, 
	created_by VARCHAR(255), 
	CONSTRAINT issues_pk PRIMARY KEY (issue_id), 
	CONSTRAINT fk_issues_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT fk_issues_source_run_id FOREIGN KEY(source_run_id) REFERENCES runs (run_uuid) ON DELETE SET NULL
);
CREATE TABLE job_locks (
	lock_key VARCHAR(255) NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	acquired_at BIGINT NOT NULL, 
	CONSTRAINT job_locks_pk PRIMARY KEY (lock_key), 
	CONSTRAINT fk_job_locks_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE TABLE "jobs" (
	id VARCHAR(36) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	job_name VARCHAR(500) NOT NULL, 
	params TEXT NOT NULL, 
	timeout FLOAT, 
	status INTEGER NOT NULL, 
	result TEXT, 
	retry_count INTEGER NOT NULL, 
	last_update_time BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, status_details JSON, creator VARCHAR(255), executor_backend VARCHAR(255), lease_expires_at BIGINT, status_message TEXT, progress JSON, progress_updated_at BIGINT, token_hash VARCHAR(64), scoped_permissions JSON, next_attempt_at BIGINT, 
	CONSTRAINT jobs_pk PRIMARY KEY (id)
);
CREATE TABLE label_schemas (
	schema_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	type VARCHAR(16) NOT NULL, 
	instruction TEXT, 
	enable_comment BOOLEAN DEFAULT '0' NOT NULL, 
	input_type VARCHAR(32) NOT NULL, 
	input_config TEXT NOT NULL, 
	created_by VARCHAR(255), 
	created_time BIGINT NOT NULL, 
	last_update_time BIGINT NOT NULL, 
	is_default BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT label_schemas_pk PRIMARY KEY (schema_id), 
	CONSTRAINT fk_label_schemas_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT uq_label_schemas_exp_name UNIQUE (experiment_id, name)
);
CREATE TABLE "latest_metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT, 
	step BIGINT NOT NULL, 
	is_nan BOOLEAN NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "latest_metrics" VALUES('objective/val_accuracy',4.58333343267440795898e-01,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('best/accuracy',5.20833313465118408203e-01,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('best/loss',1.4120107889175415039e+00,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('best/val_accuracy',4.58333343267440795898e-01,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('best/val_loss',1.26292335987091064453e+00,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('cost/parameters',387.0,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('cost/train_seconds',3.64216033200000310898e+00,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('cost/flops',288.0,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('cost/peak_memory_bytes',256.0,1795905171134,0,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('accuracy',5.20833313465118408203e-01,1795905171134,1,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('loss',1.39483213424682617187e+00,1795905171134,1,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('val_accuracy',4.58333343267440795898e-01,1795905171134,1,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('val_loss',1.24738514423370361328e+00,1795905171134,1,0,'ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "latest_metrics" VALUES('best_objective',0.5,1795905208458,8,0,'0768df05c0f045fd9640971c53c13973');
INSERT INTO "latest_metrics" VALUES('objective/val_accuracy',0.5,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('best/accuracy',0.5625,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('best/loss',9.98561561107635498046e-01,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('best/val_accuracy',0.5,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('best/val_loss',1.01050353050231933593e+00,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('cost/parameters',435.0,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('cost/train_seconds',3.29262001699999,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('cost/flops',400.0,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('cost/peak_memory_bytes',128.0,1795905178217,0,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('accuracy',0.5625,1795905178217,1,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('loss',0.997673511505127,1795905178217,1,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('val_accuracy',0.5,1795905178217,1,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('val_loss',1.00957095623016357421e+00,1795905178217,1,0,'39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "latest_metrics" VALUES('objective/val_accuracy',0.375,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('best/accuracy',2.0833332836627960205e-01,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('best/loss',1.5968061685562133789e+00,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('best/val_accuracy',0.375,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('best/val_loss',1.50665283203125,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('cost/parameters',467.0,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('cost/train_seconds',6.27765509000028,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('cost/flops',400.0,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('cost/peak_memory_bytes',128.0,1795905188013,0,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('accuracy',2.29166671633720397949e-01,1795905188013,1,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('loss',1.58099400997161865234e+00,1795905188013,1,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('val_accuracy',0.375,1795905188013,1,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('val_loss',1.49589443206787109375e+00,1795905188013,1,0,'8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "latest_metrics" VALUES('objective/val_accuracy',2.91666656732559204101e-01,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('best/accuracy',4.16666656732559204101e-01,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('best/loss',1.07688283920288085937e+00,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('best/val_accuracy',2.91666656732559204101e-01,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('best/val_loss',1.07063305377960205078e+00,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('cost/parameters',323.0,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('cost/train_seconds',4.11265261800008374848e+00,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('cost/flops',288.0,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('cost/peak_memory_bytes',152.0,1795905194167,0,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('accuracy',4.16666656732559204101e-01,1795905194167,1,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('loss',1.07486736774444580078e+00,1795905194167,1,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('val_accuracy',2.91666656732559204101e-01,1795905194167,1,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('val_loss',1.06929337978363037109e+00,1795905194167,1,0,'507ae5e13a354522902c683f43b2b825');
INSERT INTO "latest_metrics" VALUES('objective/val_accuracy',2.91666656732559204101e-01,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('best/accuracy',0.3125,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('best/loss',1.17711436748504638671e+00,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('best/val_accuracy',2.91666656732559204101e-01,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('best/val_loss',1.18825280666351318359e+00,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('cost/parameters',435.0,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('cost/train_seconds',4.15709110799980408046e+00,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('cost/flops',400.0,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('cost/peak_memory_bytes',128.0,1795905201845,0,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('accuracy',0.3125,1795905201845,1,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('loss',1.17519938945770263671e+00,1795905201845,1,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('val_accuracy',2.91666656732559204101e-01,1795905201845,1,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('val_loss',1.18621408939361572265e+00,1795905201845,1,0,'7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "latest_metrics" VALUES('objective/val_accuracy',0.25,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('best/accuracy',2.91666656732559204101e-01,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('best/loss',1.67563855648040771484e+00,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('best/val_accuracy',0.25,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('best/val_loss',1.5322614908218383789e+00,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('cost/parameters',467.0,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('cost/train_seconds',3.59278979300006540142e+00,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('cost/flops',400.0,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('cost/peak_memory_bytes',128.0,1795905208458,0,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('accuracy',2.91666656732559204101e-01,1795905208458,1,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('loss',1.64238154888153076171e+00,1795905208458,1,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('val_accuracy',0.25,1795905208458,1,0,'5b910221602e4665aa02b11bef39044f');
INSERT INTO "latest_metrics" VALUES('val_loss',1.50141131877899169921e+00,1795905208458,1,0,'5b910221602e4665aa02b11bef39044f');
CREATE TABLE logged_model_metrics (
	model_id VARCHAR(36) NOT NULL, 
	metric_name VARCHAR(500) NOT NULL, 
	metric_timestamp_ms BIGINT NOT NULL, 
	metric_step BIGINT NOT NULL, 
	metric_value FLOAT, 
	experiment_id INTEGER NOT NULL, 
	run_id VARCHAR(32) NOT NULL, 
	dataset_uuid VARCHAR(36), 
	dataset_name VARCHAR(500), 
	dataset_digest VARCHAR(36), 
	CONSTRAINT logged_model_metrics_pk PRIMARY KEY (model_id, metric_name, metric_timestamp_ms, metric_step, run_id), 
	CONSTRAINT fk_logged_model_metrics_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_metrics_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE, 
	CONSTRAINT fk_logged_model_metrics_run_id FOREIGN KEY(run_id) REFERENCES runs (run_uuid) ON DELETE CASCADE
);
CREATE TABLE logged_model_params (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	param_key VARCHAR(255) NOT NULL, 
	param_value TEXT NOT NULL, 
	CONSTRAINT logged_model_params_pk PRIMARY KEY (model_id, param_key), 
	CONSTRAINT fk_logged_model_params_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_params_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
CREATE TABLE logged_model_tags (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	tag_key VARCHAR(255) NOT NULL, 
	tag_value TEXT NOT NULL, 
	CONSTRAINT logged_model_tags_pk PRIMARY KEY (model_id, tag_key), 
	CONSTRAINT fk_logged_model_tags_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_tags_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
CREATE TABLE logged_models (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	artifact_location VARCHAR(1000) NOT NULL, 
	creation_timestamp_ms BIGINT NOT NULL, 
	last_updated_timestamp_ms BIGINT NOT NULL, 
	status INTEGER NOT NULL, 
	lifecycle_stage VARCHAR(32), 
	model_type VARCHAR(500), 
	source_run_id VARCHAR(32), 
	status_message VARCHAR(1000), 
	CONSTRAINT logged_models_pk PRIMARY KEY (model_id), 
	CONSTRAINT logged_models_lifecycle_stage_check CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT fk_logged_models_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE mcp_access_endpoints (
	id VARCHAR(36) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	server_name VARCHAR(256) NOT NULL, 
	server_version VARCHAR(128), 
	server_alias VARCHAR(256), 
	url VARCHAR(2048) NOT NULL, 
	transport_type VARCHAR(32) DEFAULT 'streamable-http' NOT NULL, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_access_endpoints_pk PRIMARY KEY (id), 
	CONSTRAINT mcp_access_endpoints_server_fkey FOREIGN KEY(workspace, server_name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_aliases (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	alias VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	CONSTRAINT mcp_server_aliases_pk PRIMARY KEY (workspace, name, alias), 
	CONSTRAINT mcp_server_aliases_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_tags (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT mcp_server_tags_pk PRIMARY KEY (workspace, name, "key"), 
	CONSTRAINT mcp_server_tags_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_version_tags (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT mcp_server_version_tags_pk PRIMARY KEY (workspace, name, version, "key"), 
	CONSTRAINT mcp_server_version_tags_version_fkey FOREIGN KEY(workspace, name, version) REFERENCES mcp_server_versions (workspace, name, version) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_versions (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	version_major INTEGER NOT NULL, 
	version_minor INTEGER NOT NULL, 
	version_patch INTEGER NOT NULL, 
	version_prerelease_sort_key VARCHAR(512) NOT NULL, 
	server_json JSON NOT NULL, 
	status VARCHAR(20) DEFAULT 'draft' NOT NULL, 
	tools JSON, 
	source VARCHAR(512), 
	connect_options JSON, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_server_versions_pk PRIMARY KEY (workspace, name, version), 
	CONSTRAINT mcp_server_versions_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_servers (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	display_name VARCHAR(256), 
	description TEXT, 
	icons JSON, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_servers_pk PRIMARY KEY (workspace, name)
);
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "metrics" VALUES('objective/val_accuracy',4.58333343267440795898e-01,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('best/accuracy',5.20833313465118408203e-01,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('best/loss',1.4120107889175415039e+00,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('best/val_accuracy',4.58333343267440795898e-01,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('best/val_loss',1.26292335987091064453e+00,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('cost/parameters',387.0,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('cost/train_seconds',3.64216033200000310898e+00,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('cost/flops',288.0,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('cost/peak_memory_bytes',256.0,1795905171134,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('accuracy',5.20833313465118408203e-01,1795905168689,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('accuracy',5.20833313465118408203e-01,1795905171134,'ea376c9b675445ecae18f4997c4a3942',1,0);
INSERT INTO "metrics" VALUES('loss',1.4120107889175415039e+00,1795905168689,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('loss',1.39483213424682617187e+00,1795905171134,'ea376c9b675445ecae18f4997c4a3942',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',4.58333343267440795898e-01,1795905168689,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('val_accuracy',4.58333343267440795898e-01,1795905171134,'ea376c9b675445ecae18f4997c4a3942',1,0);
INSERT INTO "metrics" VALUES('val_loss',1.26292335987091064453e+00,1795905168689,'ea376c9b675445ecae18f4997c4a3942',0,0);
INSERT INTO "metrics" VALUES('val_loss',1.24738514423370361328e+00,1795905171134,'ea376c9b675445ecae18f4997c4a3942',1,0);
INSERT INTO "metrics" VALUES('best_objective',4.58333343267440795898e-01,1795905171134,'0768df05c0f045fd9640971c53c13973',1,0);
INSERT INTO "metrics" VALUES('objective/val_accuracy',0.5,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('best/accuracy',0.5625,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('best/loss',9.98561561107635498046e-01,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('best/val_accuracy',0.5,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('best/val_loss',1.01050353050231933593e+00,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('cost/parameters',435.0,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('cost/train_seconds',3.29262001699999,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('cost/flops',400.0,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('cost/peak_memory_bytes',128.0,1795905178217,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('accuracy',0.5625,1795905176257,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('accuracy',0.5625,1795905178217,'39f237f119734d20a6a9dc3152ac495e',1,0);
INSERT INTO "metrics" VALUES('loss',9.98561561107635498046e-01,1795905176257,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('loss',0.997673511505127,1795905178217,'39f237f119734d20a6a9dc3152ac495e',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',0.5,1795905176257,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('val_accuracy',0.5,1795905178217,'39f237f119734d20a6a9dc3152ac495e',1,0);
INSERT INTO "metrics" VALUES('val_loss',1.01050353050231933593e+00,1795905176257,'39f237f119734d20a6a9dc3152ac495e',0,0);
INSERT INTO "metrics" VALUES('val_loss',1.00957095623016357421e+00,1795905178217,'39f237f119734d20a6a9dc3152ac495e',1,0);
INSERT INTO "metrics" VALUES('best_objective',0.5,1795905178217,'0768df05c0f045fd9640971c53c13973',4,0);
INSERT INTO "metrics" VALUES('objective/val_accuracy',0.375,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('best/accuracy',2.0833332836627960205e-01,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('best/loss',1.5968061685562133789e+00,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('best/val_accuracy',0.375,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('best/val_loss',1.50665283203125,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('cost/parameters',467.0,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('cost/train_seconds',6.27765509000028,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('cost/flops',400.0,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('cost/peak_memory_bytes',128.0,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('accuracy',2.0833332836627960205e-01,1795905184239,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('accuracy',2.29166671633720397949e-01,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',1,0);
INSERT INTO "metrics" VALUES('loss',1.5968061685562133789e+00,1795905184239,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('loss',1.58099400997161865234e+00,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',0.375,1795905184239,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('val_accuracy',0.375,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',1,0);
INSERT INTO "metrics" VALUES('val_loss',1.50665283203125,1795905184239,'8e2e59afae634e9facb22096f2bbcb59',0,0);
INSERT INTO "metrics" VALUES('val_loss',1.49589443206787109375e+00,1795905188013,'8e2e59afae634e9facb22096f2bbcb59',1,0);
INSERT INTO "metrics" VALUES('best_objective',0.5,1795905188013,'0768df05c0f045fd9640971c53c13973',5,0);
INSERT INTO "metrics" VALUES('objective/val_accuracy',2.91666656732559204101e-01,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('best/accuracy',4.16666656732559204101e-01,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('best/loss',1.07688283920288085937e+00,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('best/val_accuracy',2.91666656732559204101e-01,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('best/val_loss',1.07063305377960205078e+00,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('cost/parameters',323.0,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('cost/train_seconds',4.11265261800008374848e+00,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('cost/flops',288.0,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('cost/peak_memory_bytes',152.0,1795905194167,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('accuracy',4.16666656732559204101e-01,1795905191662,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('accuracy',4.16666656732559204101e-01,1795905194167,'507ae5e13a354522902c683f43b2b825',1,0);
INSERT INTO "metrics" VALUES('loss',1.07688283920288085937e+00,1795905191662,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('loss',1.07486736774444580078e+00,1795905194167,'507ae5e13a354522902c683f43b2b825',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',2.91666656732559204101e-01,1795905191662,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('val_accuracy',2.91666656732559204101e-01,1795905194167,'507ae5e13a354522902c683f43b2b825',1,0);
INSERT INTO "metrics" VALUES('val_loss',1.07063305377960205078e+00,1795905191662,'507ae5e13a354522902c683f43b2b825',0,0);
INSERT INTO "metrics" VALUES('val_loss',1.06929337978363037109e+00,1795905194167,'507ae5e13a354522902c683f43b2b825',1,0);
INSERT INTO "metrics" VALUES('best_objective',0.5,1795905194167,'0768df05c0f045fd9640971c53c13973',6,0);
INSERT INTO "metrics" VALUES('objective/val_accuracy',2.91666656732559204101e-01,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('best/accuracy',0.3125,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('best/loss',1.17711436748504638671e+00,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('best/val_accuracy',2.91666656732559204101e-01,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('best/val_loss',1.18825280666351318359e+00,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('cost/parameters',435.0,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('cost/train_seconds',4.15709110799980408046e+00,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('cost/flops',400.0,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('cost/peak_memory_bytes',128.0,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('accuracy',0.3125,1795905199080,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('accuracy',0.3125,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',1,0);
INSERT INTO "metrics" VALUES('loss',1.17711436748504638671e+00,1795905199080,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('loss',1.17519938945770263671e+00,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',2.91666656732559204101e-01,1795905199080,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('val_accuracy',2.91666656732559204101e-01,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',1,0);
INSERT INTO "metrics" VALUES('val_loss',1.18825280666351318359e+00,1795905199080,'7c1f2a387b1944409b3d7ce1ed5e282e',0,0);
INSERT INTO "metrics" VALUES('val_loss',1.18621408939361572265e+00,1795905201845,'7c1f2a387b1944409b3d7ce1ed5e282e',1,0);
INSERT INTO "metrics" VALUES('best_objective',0.5,1795905201845,'0768df05c0f045fd9640971c53c13973',7,0);
INSERT INTO "metrics" VALUES('objective/val_accuracy',0.25,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('best/accuracy',2.91666656732559204101e-01,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('best/loss',1.67563855648040771484e+00,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('best/val_accuracy',0.25,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('best/val_loss',1.5322614908218383789e+00,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('cost/parameters',467.0,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('cost/train_seconds',3.59278979300006540142e+00,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('cost/flops',400.0,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('cost/peak_memory_bytes',128.0,1795905208458,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('accuracy',2.91666656732559204101e-01,1795905205970,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('accuracy',2.91666656732559204101e-01,1795905208458,'5b910221602e4665aa02b11bef39044f',1,0);
INSERT INTO "metrics" VALUES('loss',1.67563855648040771484e+00,1795905205970,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('loss',1.64238154888153076171e+00,1795905208458,'5b910221602e4665aa02b11bef39044f',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',0.25,1795905205970,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('val_accuracy',0.25,1795905208458,'5b910221602e4665aa02b11bef39044f',1,0);
INSERT INTO "metrics" VALUES('val_loss',1.5322614908218383789e+00,1795905205970,'5b910221602e4665aa02b11bef39044f',0,0);
INSERT INTO "metrics" VALUES('val_loss',1.50141131877899169921e+00,1795905208458,'5b910221602e4665aa02b11bef39044f',1,0);
INSERT INTO "metrics" VALUES('best_objective',0.5,1795905208458,'0768df05c0f045fd9640971c53c13973',8,0);
CREATE TABLE "model_definitions" (
	model_definition_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	secret_id VARCHAR(36), 
	provider VARCHAR(64) NOT NULL, 
	model_name VARCHAR(256) NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_definitions_pk PRIMARY KEY (model_definition_id), 
	CONSTRAINT fk_model_definitions_secret_id FOREIGN KEY(secret_id) REFERENCES secrets (secret_id) ON DELETE SET NULL, 
	CONSTRAINT uq_model_definitions_workspace_name UNIQUE (workspace, name)
);
CREATE TABLE "model_version_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY (workspace, "key", name, version), 
	CONSTRAINT fk_model_version_tags_model_versions FOREIGN KEY(workspace, name, version) REFERENCES model_versions (workspace, name, version) ON UPDATE CASCADE
);
CREATE TABLE "model_versions" (
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	user_id VARCHAR(256), 
	current_stage VARCHAR(20), 
	source VARCHAR(500), 
	run_id VARCHAR(32), 
	status VARCHAR(20), 
	status_message VARCHAR(500), 
	run_link VARCHAR(500), 
	storage_location VARCHAR(500), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_version_pk PRIMARY KEY (workspace, name, version), 
	CONSTRAINT fk_model_versions_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON UPDATE CASCADE
);
CREATE TABLE online_scoring_configs (
	online_scoring_config_id VARCHAR(36) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	sample_rate FLOAT NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	filter_string TEXT, 
	CONSTRAINT online_scoring_config_pk PRIMARY KEY (online_scoring_config_id), 
	CONSTRAINT fk_online_scoring_configs_scorer_id FOREIGN KEY(scorer_id) REFERENCES scorers (scorer_id) ON DELETE CASCADE, 
	CONSTRAINT fk_online_scoring_configs_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('objective','val_accuracy','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('direction','max','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('strategy','RegularizedEvolutionOracle','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('max_trials','8','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('epochs','2','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('batch_size','16','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('seed','3','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('deterministic','True','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('executions_per_trial','1','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('budget_seconds','None','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('max_model_size','None','0768df05c0f045fd9640971c53c13973');
INSERT INTO "params" VALUES('activation','relu','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "params" VALUES('layers','1','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "params" VALUES('units','32','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "params" VALUES('normalised','True','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "params" VALUES('rate','0.0015426140568141275','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "params" VALUES('activation','broken','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "params" VALUES('layers','2','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "params" VALUES('units','2','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "params" VALUES('normalised','True','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "params" VALUES('rate','0.001687889610012202','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "params" VALUES('activation','broken','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "params" VALUES('layers','2','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "params" VALUES('units','8','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "params" VALUES('normalised','True','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "params" VALUES('rate','0.029900301983650464','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "params" VALUES('activation','relu','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "params" VALUES('layers','2','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "params" VALUES('units','16','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "params" VALUES('normalised','False','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "params" VALUES('rate','0.0010068856862228835','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "params" VALUES('activation','relu','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "params" VALUES('layers','2','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "params" VALUES('units','16','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "params" VALUES('normalised','True','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "params" VALUES('rate','0.0010068856862228835','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "params" VALUES('activation','relu','507ae5e13a354522902c683f43b2b825');
INSERT INTO "params" VALUES('layers','1','507ae5e13a354522902c683f43b2b825');
INSERT INTO "params" VALUES('units','32','507ae5e13a354522902c683f43b2b825');
INSERT INTO "params" VALUES('normalised','False','507ae5e13a354522902c683f43b2b825');
INSERT INTO "params" VALUES('rate','0.0015426140568141275','507ae5e13a354522902c683f43b2b825');
INSERT INTO "params" VALUES('activation','relu','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "params" VALUES('layers','2','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "params" VALUES('units','16','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "params" VALUES('normalised','False','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "params" VALUES('rate','0.0012104626612222582','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "params" VALUES('activation','relu','5b910221602e4665aa02b11bef39044f');
INSERT INTO "params" VALUES('layers','2','5b910221602e4665aa02b11bef39044f');
INSERT INTO "params" VALUES('units','16','5b910221602e4665aa02b11bef39044f');
INSERT INTO "params" VALUES('normalised','True','5b910221602e4665aa02b11bef39044f');
INSERT INTO "params" VALUES('rate','0.0015831697070054379','5b910221602e4665aa02b11bef39044f');
CREATE TABLE "registered_model_aliases" (
	alias VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_alias_pk PRIMARY KEY (workspace, name, alias), 
	CONSTRAINT fk_registered_model_aliases_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE "registered_model_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_tag_pk PRIMARY KEY (workspace, "key", name), 
	CONSTRAINT fk_registered_model_tags_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON UPDATE CASCADE
);
CREATE TABLE "registered_models" (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_pk PRIMARY KEY (workspace, name)
);
CREATE TABLE review_queue_items (
	queue_id VARCHAR(36) NOT NULL, 
	item_type VARCHAR(16) NOT NULL, 
	item_id VARCHAR(50) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	completed_by VARCHAR(250), 
	completed_time_ms BIGINT, 
	creation_time_ms BIGINT NOT NULL, 
	last_update_time_ms BIGINT NOT NULL, 
	CONSTRAINT review_queue_items_pk PRIMARY KEY (queue_id, item_id), 
	CONSTRAINT fk_review_queue_items_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queue_label_schemas (
	queue_id VARCHAR(36) NOT NULL, 
	schema_id VARCHAR(36) NOT NULL, 
	CONSTRAINT review_queue_label_schemas_pk PRIMARY KEY (queue_id, schema_id), 
	CONSTRAINT fk_review_queue_label_schemas_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queue_users (
	queue_id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(250) NOT NULL, 
	CONSTRAINT review_queue_users_pk PRIMARY KEY (queue_id, user_id), 
	CONSTRAINT fk_review_queue_users_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queues (
	queue_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	queue_type VARCHAR(16) NOT NULL, 
	created_by VARCHAR(255), 
	creation_time_ms BIGINT NOT NULL, 
	last_update_time_ms BIGINT NOT NULL, 
	name_key VARCHAR(250) NOT NULL, 
	CONSTRAINT review_queues_pk PRIMARY KEY (queue_id), 
	CONSTRAINT fk_review_queues_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT uq_review_queues_experiment_name_key UNIQUE (experiment_id, name_key)
);
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('0768df05c0f045fd9640971c53c13973','flowers','UNKNOWN','','','root','FINISHED',1795905165017,1795905211960,'','active','{ROOT}/mlruns/1/0768df05c0f045fd9640971c53c13973/artifacts',1,NULL);
INSERT INTO "runs" VALUES('ea376c9b675445ecae18f4997c4a3942','t00 0.4583','UNKNOWN','','','root','FINISHED',1795905166245,1795905171134,'','active','{ROOT}/mlruns/1/ea376c9b675445ecae18f4997c4a3942/artifacts',1,NULL);
INSERT INTO "runs" VALUES('920c5ec3a26e47aeaf55d07d9cb8a903','t01 FAILED','UNKNOWN','','','root','FAILED',1795905171841,1795905172326,'','active','{ROOT}/mlruns/1/920c5ec3a26e47aeaf55d07d9cb8a903/artifacts',1,NULL);
INSERT INTO "runs" VALUES('20dda9d6ec3b47e18f51c7ab2699c4cd','t02 FAILED','UNKNOWN','','','root','FAILED',1795905172929,1795905173397,'','active','{ROOT}/mlruns/1/20dda9d6ec3b47e18f51c7ab2699c4cd/artifacts',1,NULL);
INSERT INTO "runs" VALUES('39f237f119734d20a6a9dc3152ac495e','t03 0.5','UNKNOWN','','','root','FINISHED',1795905174298,1795905178217,'','active','{ROOT}/mlruns/1/39f237f119734d20a6a9dc3152ac495e/artifacts',1,NULL);
INSERT INTO "runs" VALUES('8e2e59afae634e9facb22096f2bbcb59','t04 0.375','UNKNOWN','','','root','FINISHED',1795905180465,1795905188013,'','active','{ROOT}/mlruns/1/8e2e59afae634e9facb22096f2bbcb59/artifacts',1,NULL);
INSERT INTO "runs" VALUES('507ae5e13a354522902c683f43b2b825','t05 0.2917','UNKNOWN','','','root','FINISHED',1795905189157,1795905194167,'','active','{ROOT}/mlruns/1/507ae5e13a354522902c683f43b2b825/artifacts',1,NULL);
INSERT INTO "runs" VALUES('7c1f2a387b1944409b3d7ce1ed5e282e','t06 0.2917','UNKNOWN','','','root','FINISHED',1795905196315,1795905201845,'','active','{ROOT}/mlruns/1/7c1f2a387b1944409b3d7ce1ed5e282e/artifacts',1,NULL);
INSERT INTO "runs" VALUES('5b910221602e4665aa02b11bef39044f','t07 0.25','UNKNOWN','','','root','FINISHED',1795905203484,1795905208458,'','active','{ROOT}/mlruns/1/5b910221602e4665aa02b11bef39044f/artifacts',1,NULL);
CREATE TABLE scheduler_leases (
	lease_key VARCHAR(255) NOT NULL, 
	acquired_at BIGINT NOT NULL, 
	ttl_seconds INTEGER NOT NULL, 
	CONSTRAINT scheduler_leases_pk PRIMARY KEY (lease_key)
);
CREATE TABLE scorer_versions (
	scorer_id VARCHAR(36) NOT NULL, 
	scorer_version INTEGER NOT NULL, 
	serialized_scorer TEXT NOT NULL, 
	creation_time BIGINT, 
	CONSTRAINT scorer_version_pk PRIMARY KEY (scorer_id, scorer_version), 
	CONSTRAINT fk_scorer_versions_scorer_id FOREIGN KEY(scorer_id) REFERENCES scorers (scorer_id) ON DELETE CASCADE
);
CREATE TABLE scorers (
	experiment_id INTEGER NOT NULL, 
	scorer_name VARCHAR(256) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	CONSTRAINT scorer_pk PRIMARY KEY (scorer_id), 
	CONSTRAINT fk_scorers_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE "secrets" (
	secret_id VARCHAR(36) NOT NULL, 
	secret_name VARCHAR(255) NOT NULL, 
	encrypted_value BLOB NOT NULL, 
	wrapped_dek BLOB NOT NULL, 
	kek_version INTEGER NOT NULL, 
	masked_value VARCHAR(500) NOT NULL, 
	provider VARCHAR(64), 
	auth_config TEXT, 
	description TEXT, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT secrets_pk PRIMARY KEY (secret_id), 
	CONSTRAINT uq_secrets_workspace_secret_name UNIQUE (workspace, secret_name)
);
CREATE TABLE span_metrics (
	trace_id VARCHAR(50) NOT NULL, 
	span_id VARCHAR(50) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT, 
	CONSTRAINT span_metrics_pk PRIMARY KEY (trace_id, span_id, "key"), 
	CONSTRAINT fk_span_metrics_span FOREIGN KEY(trace_id, span_id) REFERENCES spans (trace_id, span_id) ON DELETE CASCADE
);
CREATE TABLE "spans" (
	trace_id VARCHAR(50) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	span_id VARCHAR(50) NOT NULL, 
	parent_span_id VARCHAR(50), 
	name TEXT, 
	type VARCHAR(500), 
	status VARCHAR(50) NOT NULL, 
	start_time_unix_nano BIGINT NOT NULL, 
	end_time_unix_nano BIGINT, 
	duration_ns BIGINT GENERATED ALWAYS AS (end_time_unix_nano - start_time_unix_nano) STORED, 
	content TEXT NOT NULL, 
	input_cost FLOAT, 
	output_cost FLOAT, 
	total_cost FLOAT, 
	model_name VARCHAR(500), 
	model_provider VARCHAR(500), 
	CONSTRAINT spans_pk PRIMARY KEY (trace_id, span_id), 
	CONSTRAINT fk_spans_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_spans_trace_id FOREIGN KEY(trace_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE sql_assessment_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	CONSTRAINT sql_assessment_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_span_cost_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	model_name VARCHAR(500), 
	model_provider VARCHAR(500), 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	CONSTRAINT sql_span_cost_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_trace_metric_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	trace_status VARCHAR(50), 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	p50_value FLOAT, 
	p90_value FLOAT, 
	p99_value FLOAT, 
	CONSTRAINT sql_trace_metric_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_trace_rollup_rebuild_queue (
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	rollup_family VARCHAR(50) NOT NULL, 
	CONSTRAINT sql_trace_rollup_rebuild_queue_pk PRIMARY KEY (experiment_id, rollup_day, rollup_family)
);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('mlflow.user','root','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.schema','1','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.precision','float32','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.name','flowers','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.objective','val_accuracy','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.direction','max','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.directory','{ROOT}/searches/flowers','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.env.devices','1','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.env.distribution','none','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.env.backend','tensorflow','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.env.python','3.11.7','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.env.keras','3.15.1','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.env.keras-tuner','1.4.8','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.env.keras-nas-plugin','0.1.0','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.env.tensorflow','2.21.0','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.resume_command','keras-nas search {ROOT}/recipe.py --directory {ROOT}/searches --project-name flowers --experiment earlier --deterministic --strategy evolution --max-trials 8 --epochs 2 --seed 3 --constraint ''params<=700'' --batch-size 16 --tracking-uri sqlite:///{ROOT}/mlflow.db --resume','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.kind','search','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('mlflow.runName','flowers','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('mlflow.note.content','## flowers

**RegularizedEvolutionOracle** looks for the highest `val_accuracy`. 8 of 8 trials ended: 6 finished, 2 failed, 0 killed. They took 33 s. Trained on CPU (x86_64), float32.

| Rank | Trial | val_accuracy | Parameters | Seconds | Values |
| ---: | :--- | ---: | ---: | ---: | :--- |
| 1 | 3 | 0.5 | 435 | 3.3 | activation=relu, layers=2, units=16, normalised=False, rate=0.001007 |
| 2 | 0 | 0.458333 | 387 | 3.6 | activation=relu, layers=1, units=32, normalised=True, rate=0.001543 |
| 3 | 4 | 0.375 | 467 | 6.3 | activation=relu, layers=2, units=16, normalised=True, rate=0.001007 |
| 4 | 5 | 0.291667 | 323 | 4.1 | activation=relu, layers=1, units=32, normalised=False, rate=0.001543 |
| 5 | 6 | 0.291667 | 435 | 4.2 | activation=relu, layers=2, units=16, normalised=False, rate=0.00121 |
| 6 | 7 | 0.25 | 467 | 3.6 | activation=relu, layers=2, units=16, normalised=True, rate=0.001583 |

**Constraints:** 2 candidates were infeasible and not trained (params 2).

**Searched:** a continuous space in 5 decisions: `activation`, `layers`, `units`, `normalised`, `rate`.

**Data:**

- recipe (training): x float32 (48, 6), y int32 (48)
- recipe-validation (validation): x float32 (24, 6), y int32 (24)

**Cost against score:**

| Parameters | val_accuracy | Trial |
| ---: | ---: | :--- |
| 323 | 0.291667 | 5 |
| 387 | 0.458333 | 0 |
| 435 | 0.5 | 3 |

**Failures by cause:** ValueError 2. The last:

- 1: ValueError: this activation always fails
- 2: ValueError: this activation always fails

**Go on with this search:**

```sh
keras-nas search {ROOT}/recipe.py --directory {ROOT}/searches --project-name flowers --experiment earlier --deterministic --strategy evolution --max-trials 8 --epochs 2 --seed 3 --constraint ''params<=700'' --batch-size 16 --tracking-uri sqlite:///{ROOT}/mlflow.db --resume
```

**Register the best model:**

```sh
keras-nas search {ROOT}/recipe.py --directory {ROOT}/searches --project-name flowers --experiment earlier --deterministic --strategy evolution --max-trials 8 --epochs 2 --seed 3 --constraint ''params<=700'' --batch-size 16 --tracking-uri sqlite:///{ROOT}/mlflow.db --resume --register NAME
```','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('mlflow.user','root','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('nas.schema','1','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('nas.precision','float32','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('nas.kind','trial','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('nas.trial_id','0','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('mlflow.parentRunId','0768df05c0f045fd9640971c53c13973','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('mlflow.runName','t00 0.4583','ea376c9b675445ecae18f4997c4a3942');
INSERT INTO "tags" VALUES('nas.best_trial_id','3','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('nas.best_run_id','39f237f119734d20a6a9dc3152ac495e','0768df05c0f045fd9640971c53c13973');
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('mlflow.user','root','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('nas.schema','1','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('nas.precision','float32','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('nas.kind','trial','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('nas.trial_id','1','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('mlflow.parentRunId','0768df05c0f045fd9640971c53c13973','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('mlflow.runName','t01 FAILED','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('nas.error','ValueError: this activation always fails','920c5ec3a26e47aeaf55d07d9cb8a903');
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('mlflow.user','root','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('nas.schema','1','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('nas.precision','float32','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('nas.kind','trial','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('nas.trial_id','2','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('mlflow.parentRunId','0768df05c0f045fd9640971c53c13973','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('mlflow.runName','t02 FAILED','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('nas.error','ValueError: this activation always fails','20dda9d6ec3b47e18f51c7ab2699c4cd');
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('mlflow.user','root','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('nas.schema','1','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('nas.precision','float32','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('nas.kind','trial','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('nas.trial_id','3','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('mlflow.parentRunId','0768df05c0f045fd9640971c53c13973','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('mlflow.runName','t03 0.5','39f237f119734d20a6a9dc3152ac495e');
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('mlflow.user','root','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('nas.schema','1','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('nas.precision','float32','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('nas.kind','trial','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('nas.trial_id','4','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('mlflow.parentRunId','0768df05c0f045fd9640971c53c13973','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('mlflow.runName','t04 0.375','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('nas.parents','3','8e2e59afae634e9facb22096f2bbcb59');
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('mlflow.user','root','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('nas.schema','1','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('nas.precision','float32','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('nas.kind','trial','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('nas.trial_id','5','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('mlflow.parentRunId','0768df05c0f045fd9640971c53c13973','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('mlflow.runName','t05 0.2917','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('nas.parents','0','507ae5e13a354522902c683f43b2b825');
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('mlflow.user','root','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('nas.schema','1','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('nas.precision','float32','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('nas.kind','trial','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('nas.trial_id','6','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('mlflow.parentRunId','0768df05c0f045fd9640971c53c13973','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('mlflow.runName','t06 0.2917','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('nas.parents','4, 3','7c1f2a387b1944409b3d7ce1ed5e282e');
INSERT INTO "tags" VALUES('mlflow.source.name','keras-nas','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('mlflow.user','root','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('nas.schema','1','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('nas.search_id','c353eff8c630151b','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('nas.device','CPU (x86_64)','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('nas.precision','float32','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('nas.kind','trial','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('nas.trial_id','7','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('mlflow.parentRunId','0768df05c0f045fd9640971c53c13973','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('mlflow.runName','t07 0.25','5b910221602e4665aa02b11bef39044f');
INSERT INTO "tags" VALUES('nas.parents','4','5b910221602e4665aa02b11bef39044f');
CREATE TABLE "trace_info" (
	request_id VARCHAR(50) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	timestamp_ms BIGINT NOT NULL, 
	execution_time_ms BIGINT, 
	status VARCHAR(50) NOT NULL, 
	client_request_id VARCHAR(50), 
	request_preview VARCHAR(1000), 
	response_preview VARCHAR(1000), 
	db_payload_generation INTEGER DEFAULT '0' NOT NULL, trace_name VARCHAR(4096), session_id VARCHAR(250), input_tokens BIGINT, output_tokens BIGINT, total_tokens BIGINT, cache_read_input_tokens BIGINT, cache_creation_input_tokens BIGINT, cache_creation_input_tokens_above_1hr BIGINT, input_cost FLOAT, output_cost FLOAT, total_cost FLOAT, 
	CONSTRAINT trace_info_pk PRIMARY KEY (request_id), 
	CONSTRAINT fk_trace_info_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE trace_metrics (
	request_id VARCHAR(50) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT, 
	CONSTRAINT trace_metrics_pk PRIMARY KEY (request_id, "key"), 
	CONSTRAINT fk_trace_metrics_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE "trace_request_metadata" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_request_metadata_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_request_metadata_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE "trace_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_tag_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_tags_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE webhook_events (
	webhook_id VARCHAR(256) NOT NULL, 
	entity VARCHAR(50) NOT NULL, 
	action VARCHAR(50) NOT NULL, 
	CONSTRAINT webhook_event_pk PRIMARY KEY (webhook_id, entity, action), 
	FOREIGN KEY(webhook_id) REFERENCES webhooks (webhook_id) ON DELETE cascade
);
CREATE TABLE "webhooks" (
	webhook_id VARCHAR(256) NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	description VARCHAR(1000), 
	url VARCHAR(500) NOT NULL, 
	status VARCHAR(20) DEFAULT 'ACTIVE' NOT NULL, 
	secret VARCHAR(1000), 
	creation_timestamp BIGINT, 
	last_updated_timestamp BIGINT, 
	deleted_timestamp BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT webhook_pk PRIMARY KEY (webhook_id)
);
CREATE TABLE workspaces (
	name VARCHAR(63) NOT NULL, 
	description TEXT, 
	default_artifact_root TEXT, trace_archival_location TEXT, trace_archival_retention VARCHAR(32), 
	CONSTRAINT workspaces_pk PRIMARY KEY (name)
);
INSERT INTO "workspaces" VALUES('default','Default workspace for legacy resources',NULL,NULL,NULL);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_inputs_destination_type_destination_id_source_type ON inputs (destination_type, destination_id, source_type);
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
CREATE INDEX index_trace_tags_request_id ON trace_tags (request_id);
CREATE INDEX index_trace_request_metadata_request_id ON trace_request_metadata (request_id);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type ON datasets (experiment_id, dataset_source_type);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
CREATE INDEX index_logged_model_metrics_model_id ON logged_model_metrics (model_id);
CREATE INDEX index_entity_associations_association_id ON entity_associations (association_id);
CREATE INDEX index_entity_associations_reverse_lookup ON entity_associations (destination_type, destination_id, source_type, source_id);
CREATE INDEX idx_webhook_events_entity ON webhook_events (entity);
CREATE INDEX idx_webhook_events_action ON webhook_events (action);
CREATE INDEX idx_webhook_events_entity_action ON webhook_events (entity, action);
CREATE UNIQUE INDEX index_scorers_experiment_id_scorer_name ON scorers (experiment_id, scorer_name);
CREATE INDEX index_scorer_versions_scorer_id ON scorer_versions (scorer_id);
CREATE INDEX index_evaluation_dataset_tags_dataset_id ON evaluation_dataset_tags (dataset_id);
CREATE INDEX index_evaluation_dataset_records_dataset_id ON evaluation_dataset_records (dataset_id);
CREATE INDEX index_endpoint_model_mappings_endpoint_id ON endpoint_model_mappings (endpoint_id);
CREATE INDEX index_endpoint_model_mappings_model_definition_id ON endpoint_model_mappings (model_definition_id);
CREATE INDEX index_endpoint_tags_endpoint_id ON endpoint_tags (endpoint_id);
CREATE INDEX index_trace_metrics_request_id ON trace_metrics (request_id);
CREATE UNIQUE INDEX unique_endpoint_model_linkage_mapping ON endpoint_model_mappings (endpoint_id, model_definition_id, linkage_type);
CREATE INDEX index_span_metrics_trace_id_span_id ON span_metrics (trace_id, span_id);
CREATE INDEX index_evaluation_datasets_created_time ON evaluation_datasets (created_time);
CREATE INDEX index_evaluation_datasets_name ON evaluation_datasets (name);
CREATE INDEX idx_webhooks_status ON webhooks (status);
CREATE INDEX idx_webhooks_name ON webhooks (name);
CREATE INDEX index_model_definitions_secret_id ON model_definitions (secret_id);
CREATE INDEX index_model_definitions_provider ON model_definitions (provider);
CREATE INDEX index_jobs_name_status_creation_time ON jobs (job_name, workspace, status, creation_time);
CREATE INDEX idx_experiments_workspace ON experiments (workspace);
CREATE INDEX idx_registered_models_workspace ON registered_models (workspace);
CREATE INDEX idx_experiments_workspace_creation_time ON experiments (workspace, creation_time);
CREATE INDEX idx_evaluation_datasets_workspace ON evaluation_datasets (workspace);
CREATE INDEX idx_webhooks_workspace ON webhooks (workspace);
CREATE INDEX idx_secrets_workspace ON secrets (workspace);
CREATE INDEX idx_endpoints_workspace ON endpoints (workspace);
CREATE INDEX idx_model_definitions_workspace ON model_definitions (workspace);
CREATE INDEX idx_budget_policies_workspace ON budget_policies (workspace);
CREATE INDEX index_issues_experiment_id ON issues (experiment_id);
CREATE INDEX index_issues_source_run_id ON issues (source_run_id);
CREATE INDEX index_issues_status ON issues (status);
CREATE INDEX index_metrics_run_uuid_key_step ON metrics (run_uuid, "key", step);
CREATE INDEX idx_guardrails_workspace ON guardrails (workspace);
CREATE INDEX idx_guardrails_scorer ON guardrails (scorer_id, scorer_version);
CREATE INDEX idx_guardrail_configs_endpoint_id ON guardrail_configs (endpoint_id);
CREATE INDEX idx_guardrail_configs_guardrail_id ON guardrail_configs (guardrail_id);
CREATE INDEX idx_model_version_tags_workspace_name_version ON model_version_tags (workspace, name, version);
CREATE INDEX idx_registered_model_tags_workspace_name ON registered_model_tags (workspace, name);
CREATE INDEX index_label_schemas_experiment_id ON label_schemas (experiment_id);
CREATE INDEX index_review_queues_experiment_id ON review_queues (experiment_id);
CREATE INDEX index_review_queue_users_user_id ON review_queue_users (user_id);
CREATE INDEX index_review_queue_items_queue_id_status ON review_queue_items (queue_id, status);
CREATE INDEX index_review_queue_items_item_id ON review_queue_items (item_id);
CREATE INDEX index_review_queue_label_schemas_schema_id ON review_queue_label_schemas (schema_id);
CREATE INDEX idx_mcp_server_versions_latest ON mcp_server_versions (workspace, name, status, version_major DESC, version_minor DESC, version_patch DESC);
CREATE INDEX ix_mcp_access_endpoints_server_name ON mcp_access_endpoints (workspace, server_name);
CREATE INDEX ix_mcp_access_endpoints_version ON mcp_access_endpoints (workspace, server_name, server_version);
CREATE INDEX ix_mcp_access_endpoints_alias ON mcp_access_endpoints (workspace, server_name, server_alias);
CREATE INDEX idx_budget_policies_target_value ON budget_policies (target_value);
CREATE INDEX index_trace_info_experiment_id_timestamp_ms ON trace_info (experiment_id, timestamp_ms);
CREATE INDEX index_trace_info_timestamp_ms_request_id ON trace_info (timestamp_ms, request_id);
CREATE INDEX index_assessments_last_updated_timestamp ON assessments (last_updated_timestamp);
CREATE INDEX index_assessments_run_id_created_timestamp ON assessments (run_id, created_timestamp);
CREATE INDEX index_assessments_trace_id_created_timestamp ON assessments (trace_id, created_timestamp);
CREATE INDEX index_assessments_assessment_type ON assessments (assessment_type);
CREATE INDEX index_spans_experiment_id_status_type ON spans (experiment_id, status, type);
CREATE INDEX index_spans_experiment_id_duration ON spans (experiment_id, duration_ns);
CREATE INDEX index_spans_experiment_id_start_time ON spans (experiment_id, start_time_unix_nano);
CREATE INDEX index_spans_experiment_id_type_status ON spans (experiment_id, type, status);
CREATE INDEX index_trace_info_experiment_id_session_id ON trace_info (experiment_id, session_id);
CREATE INDEX idx_trace_rollups_lookup ON sql_trace_metric_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set, trace_status);
CREATE INDEX idx_span_cost_rollups_lookup ON sql_span_cost_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set, model_name, model_provider);
CREATE INDEX idx_assessment_rollups_lookup ON sql_assessment_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set);
CREATE INDEX idx_spans_cost_trace_time_cover ON spans (trace_id, start_time_unix_nano);
CREATE INDEX idx_spans_cost_exp_time_cover ON spans (experiment_id, start_time_unix_nano);
CREATE INDEX idx_assessments_exp_trace_ts ON assessments (experiment_id, trace_timestamp_ms);
CREATE INDEX idx_assessments_exp_trace_ts_name ON assessments (experiment_id, trace_timestamp_ms, name);
CREATE INDEX idx_assessments_exp_name_valid ON assessments (experiment_id, name, valid);
CREATE INDEX index_job_locks_job_id ON job_locks (job_id);
CREATE INDEX index_jobs_status_lease_expires_at ON jobs (status, lease_expires_at);
CREATE TRIGGER prevent_secrets_aad_mutation
BEFORE UPDATE ON secrets
FOR EACH ROW
WHEN OLD.secret_id != NEW.secret_id OR OLD.secret_name != NEW.secret_name
BEGIN
    SELECT RAISE(ABORT, 'secret_id and secret_name are immutable (used as AAD in encryption)');
END;
COMMIT;
